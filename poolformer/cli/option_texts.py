"""What ``--help`` says of the trainer's verbs, and of Lightning's options, whose own texts speak of other defaults."""

VERBS = {
    "fit": "Train; with no --config, on scikit-learn's digits.",
    "validate": "Evaluate a checkpoint on the validation images.",
    "test": "Evaluate a checkpoint on the test images.",
    "predict": "Write the likeliest classes of images to a file.",
}

_BATCHES = "a share such as 0.1, or a number of batches"

TEXTS: dict[str, str] = {
    "seed_everything": "Seed of all that is drawn, an integer from 0 up; false sets none.",
    "trainer.accelerator": "What computes: cpu, gpu, mps, or auto for the fastest that is there.",
    "trainer.strategy": "How several devices work together: auto, which is ddp; fsdp keeps weights in shards.",
    "trainer.devices": "How many, or which: 2, [0, 3]; auto for all GPUs, or one process on a CPU.",
    "trainer.num_nodes": "Machines that train together.",
    "trainer.precision": "Numbers that it computes in; null for bf16-mixed on a GPU that has it, 32-true elsewhere. "
    "PoolFormer diverged in 16-mixed.",
    "trainer.logger": "null or true for TensorBoard's events in the run's directory; false for none; or loggers, as in "
    "extras/wandb. Only fit has one by itself.",
    "trainer.callbacks": "Callbacks beside the run's own; callbacks+ adds to those of the files before, callbacks "
    "replaces them.",
    "trainer.fast_dev_run": "Runs so many batches of all there is, true for one, to see that it works; keeps no run.",
    "trainer.max_epochs": "Epochs of the run, with warm-up and cool-down; the learning rate falls until then.",
    "trainer.min_epochs": "Epochs before which nothing, such as early stopping, ends the training.",
    "trainer.max_steps": "Steps of the optimiser after which training ends, with a last validation; -1 for max_epochs "
    "alone, which the learning rate goes by in any case.",
    "trainer.min_steps": "Steps before which nothing, such as early stopping, ends the training.",
    "trainer.max_time": "Time after which training ends, as DD:HH:MM:SS.",
    "trainer.limit_train_batches": f"Training batches of an epoch, of each device: {_BATCHES}; null for all.",
    "trainer.limit_val_batches": f"Validation batches, of each device: {_BATCHES}; null for all, 0 for no validation.",
    "trainer.limit_test_batches": f"Test batches, of each device: {_BATCHES}; null for all.",
    "trainer.limit_predict_batches": f"Batches to predict, of each device: {_BATCHES}; null for all.",
    "trainer.overfit_batches": f"Trains on these batches again and again, validates on as many: {_BATCHES}; 0 for all.",
    "trainer.val_check_interval": "Validates after a share of an epoch, 1.0 for its end, or a number of batches.",
    "trainer.check_val_every_n_epoch": "Epochs from one validation to the next.",
    "trainer.num_sanity_val_steps": "Validation batches that are tried before training; null for 2, -1 for all.",
    "trainer.log_every_n_steps": "Steps between two points of the curves.",
    "trainer.enable_checkpointing": "false for a run without best.ckpt and last.ckpt, which nothing resumes.",
    "trainer.enable_progress_bar": "Whether there is a bar; null for one where output goes to a terminal. The "
    "lines of each epoch are there without it too.",
    "trainer.enable_model_summary": "Whether Lightning prints its table of layers; TensorBoard has it under Text.",
    "trainer.accumulate_grad_batches": "Batches of a device whose gradients are added up to one step; the "
    "learning rate grows with them.",
    "trainer.gradient_clip_val": "Largest norm of the gradients, or largest value, by gradient_clip_algorithm; null "
    "for no clipping.",
    "trainer.gradient_clip_algorithm": "What is clipped: norm, which null is too, or value.",
    "trainer.deterministic": "Whether to refuse operations that give other sums each time; warn names them.",
    "trainer.benchmark": "Whether cuDNN tries out its algorithms; null for PyTorch's own setting.",
    "trainer.inference_mode": "Whether evaluation runs in torch.inference_mode; false for torch.no_grad.",
    "trainer.use_distributed_sampler": "Whether Lightning divides the images of others' loaders among processes; those "
    "of this package do so themselves.",
    "trainer.profiler": "simple or advanced for a table of times; extras/profile has PyTorch's.",
    "trainer.detect_anomaly": "Whether to name the operation that made a NaN in the backward pass; slow.",
    "trainer.barebones": "Trains with nothing beside, no log and no checkpoint, to measure what those cost.",
    "trainer.plugins": "Precision, cluster environment or writer of checkpoints of your own.",
    "trainer.sync_batchnorm": "Whether batch norms take their statistics over all GPUs.",
    "trainer.reload_dataloaders_every_n_epochs": "Epochs after which the loaders are made anew; 0 for never.",
    "trainer.default_root_dir": "Directory of the run, or its URL: checkpoints/, TensorBoard's events, config.yaml; "
    "null for runs/NAME after the configurations, and for a checkpoint's own run.",
    "trainer.enable_autolog_hparams": "Whether loggers get the hyper-parameters.",
    "trainer.model_registry": "Name under which Lightning's cloud would keep the model; not used here.",
    "verbose": "Whether to print the metrics.",
    "return_predictions": "Whether the trainer returns the probabilities as well; the file has them in any case.",
    "config": "Configuration: a file, a URL, or a name that 'poolformer configs' lists; repeatable, later ones win.",
    "print_config": "Print what the options come to, as a configuration, and stop.",
    "help": "Show this and stop.",
    "data": "Data module: one of ours, one of a plugin ('poolformer data' lists them), or a class of yours.",
    "model": "Options of the network and its recipe from a file of their own.",
    "trainer": "Options of the trainer from a file of their own.",
}
"""By option, without dashes; of an option that is not here Lightning's text is shown."""
