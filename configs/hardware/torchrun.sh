#!/bin/sh
# Train on all GPUs of one machine; when a process dies, all are started again, from the run's last checkpoint:
#     configs/hardware/torchrun.sh --config s12 --config hardware/ddp --data.train DIR --data.val DIR
# POOLFORMER_PROCESSES (one a GPU) and POOLFORMER_RESTARTS (3) can be set in the environment.
exec torchrun --standalone --nproc-per-node "${POOLFORMER_PROCESSES:-auto}" --max-restarts "${POOLFORMER_RESTARTS:-3}" \
    -m poolformer fit --ckpt_path auto "$@"
