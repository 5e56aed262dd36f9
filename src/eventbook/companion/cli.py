"""The command line: ``eventbook run | build | check | claims | fork | sweep | data | doctor``.

Exit status: 0 all is well; 1 something that was checked or executed failed; 2 bad input.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .errors import UserError
from .project import Project

if TYPE_CHECKING:
    from .execution.jobs import Job
    from .execution.running import Outcome
    from .ledger.claims import Row
    from .project import Chapter

app = typer.Typer(
    help="Execute the chapters, check their claims, render the book, fork a chapter.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich" if sys.stdout.isatty() else None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Chapters = Annotated[
    list[str] | None,
    typer.Argument(help="Chapters by name, e.g. deep_rewiring. Default: all.", show_default=False),
]
Profile = Annotated[
    str, typer.Option(help="quick (the notebooks' defaults) or full (overrides of full.yml).")
]
Parameters = Annotated[
    list[str] | None,
    typer.Option(
        "--parameter",
        "-p",
        metavar="NAME=VALUE",
        help="Override a parameter of the notebooks; repeatable.",
        show_default=False,
    ),
]
Notebooks = Annotated[
    list[str] | None,
    typer.Option(
        "--notebook", "-n", metavar="NAME", help="Only this of a chapter; repeatable.", show_default=False
    ),
]
Jobs = Annotated[int, typer.Option("--jobs", "-j", min=1, help="Notebooks at a time; each gets one thread.")]
Engine = Annotated[str, typer.Option(help="snakemake, papermill, or auto (snakemake if installed).")]

INTERRUPTED = 130  # what the command-line library exits with after Ctrl-C


def make_console(stderr: bool = False) -> Console:
    """Colours and live bars on a terminal, plain lines that do not wrap elsewhere; text as it is."""
    plain: dict[str, Any] = {"markup": False, "highlight": False, "emoji": False, "stderr": stderr}
    if (sys.stderr if stderr else sys.stdout).isatty():
        return Console(**plain)
    return Console(**plain, soft_wrap=True, no_color=True, force_terminal=False)


def _selected(project: Project, names: list[str] | None) -> list[Chapter]:
    return [project.chapter(name) for name in names] if names else project.chapters()


def _check_ledgers(chapters: Sequence[Chapter]) -> None:
    """Notebooks show the claims they decide: a ledger that cannot be read would fail each of them."""
    from .ledger.ledger import read_ledger

    for chapter in chapters:
        read_ledger(chapter.ledger_path)


@app.command()
def run(
    chapters: Chapters = None,
    profile: Profile = "quick",
    parameter: Parameters = None,
    notebook: Notebooks = None,
    jobs: Jobs = 2,
    engine: Engine = "auto",
    force: Annotated[bool, typer.Option(help="Execute even what is current.")] = False,
    record: Annotated[
        bool, typer.Option(help="With --profile full: write results/full/<chapter>.json.")
    ] = False,
) -> None:
    """Execute the notebooks that are stale.

    In the quick profile the outputs are copied back into the committed notebooks. With -p the run is a
    one-off variant: its results go to a folder of their own and the committed notebooks stay as they are.
    A notebook that fails is kept for reading; the others finish; the exit status is 1.
    """
    from .execution.jobs import declared_parameters, plan, reuse_results
    from .execution.running import run_jobs
    from .ledger.records import record_full
    from .notebooks.parameters import parse_assignments, typed_overrides

    project, console = Project.find(), make_console()
    selected = _selected(project, chapters)
    texts = parse_assignments(parameter or [])
    for option, given in (("-p", texts), ("-n", notebook)):
        if given and len(selected) != 1:
            raise UserError(f"{option} needs exactly one chapter, got {len(selected)}")
    names = list(dict.fromkeys(notebook)) if notebook else None
    overrides = typed_overrides(texts, declared_parameters(selected[0])) if texts else {}
    if record and (profile != "full" or overrides):
        raise UserError("--record needs --profile full and no -p")
    planned = [job for chapter in selected for job in plan(chapter, profile, overrides, names)]
    _check_ledgers(selected)
    if overrides and not force:
        reuse_results(plan(selected[0], profile), planned)
    outcome = run_jobs(planned, project, console, cores=jobs, engine=engine, force=force)
    console.print(str(outcome))
    if overrides:
        _print_variant(project, selected[0], planned, console)
    if outcome.exit_status:
        raise typer.Exit(outcome.exit_status)
    if record:
        for chapter in selected:
            console.print(f"recorded in {project.shown(record_full(chapter, names))}")


def _print_variant(project: Project, chapter: Chapter, planned: Sequence[Job], console: Console) -> None:
    """Where a one-off variant is, and what its claims say."""
    from .ledger.claims import collect_values, measured_numbers
    from .ledger.ledger import read_ledger

    folder = planned[0].folder
    values = measured_numbers(collect_values(chapter, folder))
    console.print(f"variant in {project.shown(folder)}")
    for claim in read_ledger(chapter.ledger_path).claims:
        if claim.key in values:
            value = values[claim.key]
            console.print(f"  {claim.id}: {claim.shown(value)} ({claim.condition()}): {claim.verdict(value)}")


@app.command()
def build(
    run_first: Annotated[bool, typer.Option("--run/--no-run", help="Execute stale notebooks first.")] = True,
    jobs: Jobs = 2,
    engine: Engine = "auto",
) -> None:
    """Execute what is stale, verify the claims, render the book into _build/html.

    With nothing changed since the last call, nothing is executed or rendered.
    """
    from .book.render import check_version, render
    from .book.tables import readme_with_counts, write_tables
    from .execution.jobs import all_jobs
    from .execution.running import run_jobs
    from .files import write_atomically
    from .ledger.claims import problems_of, rows_by_chapter

    project, console = Project.find(), make_console()
    check_version()
    planned, status = all_jobs(project), 0
    _check_ledgers(project.chapters())
    if run_first:
        outcome = run_jobs(planned, project, console, cores=jobs, engine=engine)
        console.print(f"notebooks: {outcome}")
        status = outcome.exit_status
    rows = rows_by_chapter(project)
    problems = [problem for own in rows.values() for problem in problems_of(own, "quick")]
    _complain(problems)
    if status:
        raise typer.Exit(status)
    write_tables(project, rows, planned)
    write_atomically(project.root / "README.md", readme_with_counts(project, rows))
    with console.status("rendering the book"):
        index, rendered = render(project)
    console.print(f"book: {'rendered' if rendered else 'current'}: {project.shown(index)}")
    if problems:
        raise typer.Exit(1)


@app.command()
def check() -> None:
    """Check the committed state without executing anything.

    Pairs agree, stamps are fresh, outputs unedited, ledgers valid, verdicts as expected, README counts
    current, table of contents complete. One line per finding; exit status 1 if there is any.
    """
    from .checks import findings

    found = list(findings(Project.find()))
    for line in found:
        print(line)
    if found:
        raise typer.Exit(1)
    print("all pairs, stamps, ledgers and counts are as they should be")


def _complain(problems: Sequence[str]) -> None:
    console = make_console(stderr=True)
    for problem in problems:
        console.print(problem, style="red")


@app.command()
def claims(
    chapters: Chapters = None,
    profile: Profile = "quick",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show every claim with its value and verdict; exit status 1 if a verdict is not the expected one."""
    from .ledger.claims import problems_of, rows_of
    from .notebooks.profiles import PROFILES

    if profile not in PROFILES:
        raise UserError(f"unknown profile {profile!r}; expected one of {', '.join(PROFILES)}")
    project, console = Project.find(), make_console()
    rows = [row for chapter in _selected(project, chapters) for row in rows_of(chapter)]
    problems = problems_of(rows, profile)
    if as_json:
        print(json.dumps([_row_json(row, profile) for row in rows], indent=1))
    elif console.is_terminal:
        table = Table("claim", "holds if", profile, "verdict", "expected")
        for row in rows:
            table.add_row(*_row_cells(row, profile))
        console.print(table)
    else:
        for row in rows:
            print("\t".join(_row_cells(row, profile)))
    _complain(problems)
    if problems:
        raise typer.Exit(1)


def _row_cells(row: Row, profile: str) -> tuple[str, str, str, str, str]:
    value = row.quick if profile == "quick" else row.full
    verdict = row.claim.verdict(value) if row.claim.in_profile(profile) else "-"
    return row.claim.id, row.claim.condition(), row.claim.shown(value), str(verdict), str(row.claim.expected)


def _row_json(row: Row, profile: str) -> dict[str, Any]:
    value = row.quick if profile == "quick" else row.full
    return {
        "chapter": row.chapter,
        "id": row.claim.id,
        "key": row.claim.key,
        "value": value,
        "condition": row.claim.condition(),
        "verdict": str(row.claim.verdict(value)) if row.claim.in_profile(profile) else None,
        "expected": str(row.claim.expected),
    }


@app.command()
def fork(
    chapter: Annotated[
        str | None, typer.Argument(help="The chapter to fork, e.g. deep_rewiring.", show_default=False)
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the fork: lower-case letters, digits, - and _.", show_default=False),
    ] = None,
    parameter: Parameters = None,
    list_: Annotated[bool, typer.Option("--list", help="List the forks.")] = False,
    remove: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Remove a fork, its runs and its page.", show_default=False),
    ] = None,
    rerun: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Execute an edited fork again and rebuild its page.", show_default=False
        ),
    ] = None,
    jobs: Jobs = 2,
    engine: Engine = "auto",
) -> None:
    """Copy a chapter with other parameters, execute it, compare it with the original.

    eventbook fork deep_rewiring --name hot -p temperature=1e-3

    The fork is a folder forks/NAME of plain notebook pairs: open it in Jupyter, edit it, rerun it.
    """
    from .execution.engines import choose_engine
    from .execution.jobs import declared_parameters
    from .notebooks.parameters import parse_assignments, shown, typed_overrides
    from .variants.forks import changed_parameters, create_fork, list_forks, open_fork, remove_fork

    project, console = Project.find(), make_console()
    modes = [list_, remove is not None, rerun is not None, chapter is not None]
    if sum(modes) != 1:
        raise UserError("expected one of: fork CHAPTER --name NAME, --list, --rerun NAME, --remove NAME")
    if chapter is None and (name or parameter):
        raise UserError("--name and -p belong to 'eventbook fork CHAPTER'")
    if list_:
        for item in list_forks(project):
            changes = ", ".join(f"{c['name']}={shown(c['fork'])}" for c in changed_parameters(project, item))
            print(f"{item.folder.name}\t{item.slug}\t{changes or 'no changed parameter'}")
        return
    if remove is not None:
        remove_fork(project, remove)
        console.print(f"removed fork {remove}")
        return
    if rerun is not None:
        edited = open_fork(project, rerun)
        _compare(project, edited, console, _run_fork(project, edited, console, jobs, engine))
        return
    if not name:
        raise UserError("expected --name NAME for the fork")
    choose_engine(engine)  # before anything is written
    declared = declared_parameters(project.chapter(str(chapter)))
    made = create_fork(
        project, str(chapter), name, typed_overrides(parse_assignments(parameter or []), declared)
    )
    console.print(f"fork in {project.shown(made.folder)}")
    try:
        outcome = _run_fork(project, made, console, jobs, engine)
    except UserError:  # nothing could run: leave no trace
        remove_fork(project, name)
        raise
    _compare(project, made, console, outcome)


def _run_fork(project: Project, made: Chapter, console: Console, jobs: int, engine: str) -> Outcome:
    from .execution.jobs import plan
    from .execution.running import run_jobs

    # the original must be current, or the comparison would set code against code of another day
    original = project.chapter(made.slug)
    return run_jobs([*plan(original), *plan(made)], project, console, cores=jobs, engine=engine)


def _compare(project: Project, made: Chapter, console: Console, outcome: Outcome) -> None:
    from .variants.comparison import render_comparison

    page = render_comparison(project, made)
    console.print(f"comparison: {project.shown(page)}")
    if outcome.exit_status:
        raise typer.Exit(outcome.exit_status)


@app.command()
def sweep(
    chapter: Annotated[str, typer.Argument(help="The chapter, e.g. deep_rewiring.")],
    parameter: Parameters = None,
    profile: Profile = "quick",
    jobs: Jobs = 2,
    engine: Engine = "auto",
) -> None:
    """Run a chapter for several values of a parameter and plot each claim against it.

    eventbook sweep deep_rewiring -p temperature=0,1e-4,1e-3
    """
    from .execution.running import run_jobs
    from .notebooks.parameters import parse_assignments
    from .variants.sweeps import plan_sweep, render_sweep

    project, console = Project.find(), make_console()
    planned = plan_sweep(project.chapter(chapter), parse_assignments(parameter or []), profile)
    everything = list({job.path("ipynb"): job for variant in planned.jobs for job in variant}.values())
    outcome = run_jobs(everything, project, console, cores=jobs, engine=engine)
    page = render_sweep(planned)
    console.print(f"values: {project.shown(planned.folder / 'results.csv')}")
    console.print(f"page: {project.shown(page)}")
    if outcome.exit_status:
        raise typer.Exit(outcome.exit_status)


@app.command(
    add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True}
)
def data(context: typer.Context) -> None:
    """List, fetch and verify the data sets."""
    from ..datasets.__main__ import main as data_sets

    raise typer.Exit(data_sets(context.args, "eventbook data"))


@app.command()
def doctor() -> None:
    """Look at versions, threads, data, stale chapters and disk, and say what to do.

    Outside a checkout it looks at what there is. Exit status 1 if there is a problem.
    """
    from .doctor import examine, project_here

    console = make_console()
    colours = {"ok": "green", "note": "yellow", "problem": "red"}
    failed = False
    for finding in examine(project_here()):
        remedy = f"  -> {finding.remedy}" if finding.remedy else ""
        text = f" {finding.subject}: {finding.text}{remedy}"
        console.print(Text.assemble((f"{finding.state:<8}", colours[finding.state]), text))
        failed |= finding.state == "problem"
    if failed:
        raise typer.Exit(1)


def main() -> None:
    """Entry point: errors of the person at the keyboard are one line and exit status 2."""
    try:
        app()
    except UserError as error:
        _complain([f"error: {error}"])
        sys.exit(2)
    except OSError as error:
        if error.filename is None:
            raise
        _complain([f"error: cannot use {error.filename}: {error.strerror}"])
        sys.exit(2)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            _complain(["interrupted; finished notebooks are kept, the next call goes on from there"])
        raise


if __name__ == "__main__":
    main()
