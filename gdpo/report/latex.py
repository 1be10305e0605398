r"""LaTeX fragments: a booktabs `tabular` to \input, no preamble."""

from __future__ import annotations

from collections.abc import Sequence

SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "±": r"$\pm$", "†": r"\dag{}", "→": r"$\rightarrow$",
}  # fmt: skip
ARROWS = {"up": r"$\uparrow$", "down": r"$\downarrow$", "": ""}


def escape(text: str) -> str:
    """`text` such that LaTeX prints it as it is."""
    return "".join(SPECIAL.get(character, character) for character in text)


def bold(text: str) -> str:
    return rf"\textbf{{{text}}}"


def tabular(
    title: str, heads: Sequence[str], lines: Sequence[Sequence[str]], labels: int, breaks: Sequence[int]
) -> str:
    """A table of cells that are LaTeX already; `heads` are plain text, the first `labels` columns set to the left.

    A rule stands before each line whose index is in `breaks`.
    """
    rows = [r"\midrule" + "\n" + _row(line) if i in breaks else _row(line) for i, line in enumerate(lines)]
    return "\n".join(
        [
            f"% {' '.join(title.split())}",
            rf"\begin{{tabular}}{{{'l' * labels}{'r' * (len(heads) - labels)}}}",
            r"\toprule",
            _row([escape(head) for head in heads]),
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
