import pytest

from tailora.progress import rich_progress, silent


def test_silent_progress_shows_nothing(capsys):
    with silent("working", 3) as advance:
        advance(3)
    assert capsys.readouterr() == ("", "")


def test_bars_go_to_standard_error(capsys):
    progress = rich_progress()
    for description in ("decoding", "training"):
        with progress(description, 4) as advance:
            advance(1)
            advance(3)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("decoding") == err.count("training") == 1
    assert "4/4" in err


def test_steps_may_be_nested_and_fail(capsys):
    progress = rich_progress()
    try:
        with progress("epochs", 2) as outer, progress("batches", 3) as inner:
            inner(3)
            outer(1)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    with progress("evaluation", 1) as advance:
        advance(1)
    err = capsys.readouterr().err
    assert "1/2" in err
    assert "evaluation" in err


def test_an_error_stands_alone(capsys):
    progress = rich_progress()
    with pytest.raises(ValueError, match="damaged"), progress("mapping", 2), progress("chips", 3):
        raise ValueError("damaged")
    assert capsys.readouterr().err == ""
