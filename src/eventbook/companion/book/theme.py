"""The book's look: one seaborn theme, one colour-blind-safe palette, for every figure.

The palette is Okabe and Ito's, ordered so that the first colours are the ones that figures use most; its
colours differ in lightness too, so that they survive a black-and-white print.
"""

from __future__ import annotations

PALETTE = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "vermilion": "#D55E00",
    "purple": "#CC79A7",
    "sky": "#56B4E9",
    "grey": "#6E6E6E",
    "black": "#1A1A1A",
}
INK = "#262626"  # seaborn's, for text and axes
GRID = "#E6E6E6"
DPI = 110


def use_theme() -> None:
    """Set the theme for all figures of this process: readable at the width of a page, light and dark.

    In a notebook each figure gets a twin for the dark mode.
    """
    import matplotlib as mpl
    import seaborn as sns
    from IPython import get_ipython

    from .dark import show_in_both

    sns.set_theme(
        context="notebook",
        style="ticks",
        palette=list(PALETTE.values()),
        rc={
            "figure.figsize": (7.2, 4.0),
            "figure.dpi": DPI,
            "savefig.dpi": DPI,
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.color": GRID,
            "grid.linewidth": 0.8,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.labelsize": 11,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "legend.fontsize": 10,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "font.family": "sans-serif",
            "font.sans-serif": ["DejaVu Sans"],
            "svg.hashsalt": "eventbook",
        },
    )
    mpl.rcParams["image.cmap"] = "cividis"
    if (shell := get_ipython()) is not None:
        show_in_both(shell)
