"""The table as LaTeX."""

from poolformer.ablation.latex import latex


def test_rows_are_booktabs_and_what_latex_would_read_is_escaped():
    table = [("row", "ours, %"), ("my_mixer & Co", "-1.50 [-2.00, -1.00] (n=2)"), ("[a]", "-"), ("pooling-5", "9 ± 1")]
    text = latex(table, ["command: poolformer\n ablate 50 %"])
    assert text.splitlines() == [
        r"% needs \usepackage{booktabs}",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"row & ours, \% \\",
        r"\midrule",
        r"my\_mixer \& Co & $-$1.50 [$-$2.00, $-$1.00] (n=2) \\",
        r"{}[a] & -- \\",
        r"pooling-5 & 9 $\pm$ 1 \\",
        r"\bottomrule",
        r"\end{tabular}",
        "% command: poolformer ablate 50 %",
    ]


def test_an_exponent_is_no_minus():
    assert r"model.lr=1e-3 \{a\}\textasciitilde{}\textbackslash{}" in latex([("a",), ("model.lr=1e-3 {a}~\\",)], [])
