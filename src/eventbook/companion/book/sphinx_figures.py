"""A Sphinx extension for figures: drawings that take the page's colours, dark twins, numbers by page.

Authors write plain ``{figure}`` directives and captions of cells; the rest happens here. A figure that a
notebook has glued gets a caption on another page with ``{glued-figure}``.

- An SVG that asks for the page's colours (``var(--eb-...)``) is written into the page instead of linked.
- Beside an image that has a dark twin (see `eventbook.companion.book.dark`) stands the twin; CSS shows one.
- Chapters number their figures by chapter: that is Sphinx's own doing. Other pages count for themselves.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import imagesize  # type: ignore[import-untyped]
from docutils import nodes  # type: ignore[import-untyped]
from docutils.parsers.rst.directives import unchanged, unchanged_required  # type: ignore[import-untyped]
from myst_nb.ext.glue.utils import create_pending_glue_ref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.docutils import SphinxDirective

from .dark import twin_name, write_twins
from .theme import DPI

PAGE_COLOURS = "var(--eb-"
WIDE = 7.5  # inches: two panels, or long labels
PIXELS = {".svg": 96}  # per inch, by the definition of CSS


class GluedFigure(SphinxDirective):
    """A figure whose image the notebook `doc` has glued; MyST-NB's ``glue:figure`` knows no `doc`."""

    required_arguments = 1  # the key
    has_content = True  # the caption
    option_spec: ClassVar = {"doc": unchanged_required, "name": unchanged, "alt": unchanged_required}

    def run(self) -> list[nodes.Node]:
        """Build the figure; its image is pasted when all pages are read."""
        (key,) = self.arguments
        given = {*self.options, *(["caption"] if self.content else [])}
        if missing := [name for name in ("doc", "alt", "caption") if name not in given]:
            raise self.error(f"glued-figure {key}: expected {' and '.join(missing)}, found none")
        source, line = self.get_source_info()
        image = create_pending_glue_ref(self.state.document, source, line, self.options["doc"], key)
        figure = nodes.figure("", image, alt=self.options["alt"])
        text = nodes.Element()
        self.state.nested_parse(self.content, self.content_offset, text)
        figure += nodes.caption("", "", *text[0].children)
        self.set_source_info(figure)
        self.add_name(figure)
        return [figure]


class FiguresInBothModes(SphinxPostTransform):
    """Inline drawings; put dark twins beside their images."""

    default_priority = 8  # images of outputs and of glue stand in the document since 5
    builders = ("html",)

    def run(self, **_: Any) -> None:
        for image in list(self.document.findall(nodes.image)):
            if "alt" in image.parent and "alt" not in image:
                image["alt"] = image.parent["alt"]
            source = Path(self.env.srcdir) / image["uri"]
            if source.suffix == ".svg" and PAGE_COLOURS in (drawn := source.read_text(encoding="utf-8")):
                image.replace_self(nodes.raw("", f'<div class="drawing">{drawn}</div>', format="html"))
                continue
            if imagesize.get(source)[0] > WIDE * PIXELS.get(source.suffix, DPI):
                image["classes"].append("wide")
            if self._has_twin(source):
                image.replace_self([image, self._twin(image)])

    def _has_twin(self, source: Path) -> bool:
        name = twin_name(source.name)
        return any((folder / name).is_file() for folder in (source.parent, outputs_of(self.app)))

    def _twin(self, image: nodes.image) -> nodes.image:
        """The twin as Sphinx will find it; `image` is marked as the light one."""
        twin = image.deepcopy()
        uri = str(PurePosixPath(image["uri"]).with_name(twin_name(PurePosixPath(image["uri"]).name)))
        twin["uri"], twin["candidates"] = uri, {"*": uri}
        image["classes"].append("in-light")
        twin["classes"] += ["in-dark", "dark-light"]  # the second keeps the theme's plate away
        if image["uri"] in self.env.images:  # glued from another page it is copied with that page
            self.env.images.add_file(self.env.docname, uri)
        return twin


def outputs_of(app: Sphinx) -> Path:
    """Where MyST-NB writes the images of outputs."""
    return Path(app.env.mystnb_config.output_folder)  # type: ignore[attr-defined]


def write_twins_of_page(app: Sphinx, _: nodes.document) -> None:
    """Put the dark twins of a notebook's figures where MyST-NB has put the figures."""
    page = Path(app.env.doc2path(app.env.docname))
    if page.suffix == ".ipynb":
        write_twins(page, outputs_of(app))


def number_by_page(_: Sphinx, env: BuildEnvironment) -> list[str]:
    """Figures outside numbered chapters are counted on each page anew."""
    for kinds in env.toc_fignumbers.values():
        for numbers in kinds.values():
            if all(len(number) == 1 for number in numbers.values()):
                numbers.update({name: (i,) for i, name in enumerate(numbers, start=1)})
    return []


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("glued-figure", GluedFigure)
    app.add_post_transform(FiguresInBothModes)
    app.connect("doctree-read", write_twins_of_page)
    app.connect("env-get-updated", number_by_page, priority=900)  # after Sphinx has numbered
    return {"parallel_read_safe": True, "parallel_write_safe": True}
