"""The folder of `serve`: one server at a time, and results that somebody deletes."""

from types import SimpleNamespace

import pytest

from simfrcnn.data.ahead import Processes
from simfrcnn.errors import OutputError
from simfrcnn.service import web
from simfrcnn.service.web_refusals import Refusal
from simfrcnn.service.web_settings import ServeOptions
from simfrcnn.workflows.prediction_folder import EXAMS
from support.studies import write_study
from support.web import studies_in, wait_until_done


def test_a_second_server_is_refused_and_deletes_no_upload(tmp_path, monkeypatch):
    """Neither one of the same model nor, once the first has ended, one of another."""
    monkeypatch.setattr(web, "facts_of", lambda model, *_: {"model": model.name})

    def served(name):
        model = SimpleNamespace(name=name, has_class_maps=False)
        return web.studies_of(model, tmp_path / "f", ServeOptions(), Processes(0))

    with served("a") as studies:
        upload = studies.uploads / ".unfinished-x"
        upload.mkdir()
        with pytest.raises(OutputError, match="another run is at work"), served("a"):
            pass
        assert upload.exists()
    with pytest.raises(OutputError, match="cannot be gone on with"), served("b"):
        pass
    assert upload.exists()
    with served("a"):
        assert not upload.exists()


def found_by_list(studies, name):
    studies.look_again(at_once=True)
    (study,) = studies.listed()
    return study


def found_by_result(studies, name):
    with pytest.raises(Refusal) as caught:
        studies.result(name)
    assert caught.value.status == 404
    assert "it is new" in caught.value.error
    return studies.study(name)


@pytest.mark.parametrize("found", [found_by_list, found_by_result, None])
def test_a_study_whose_result_was_deleted_is_judged_again(tmp_path, found):
    write_study(tmp_path / "f", 0, n_views=1)
    with studies_in(tmp_path / "f") as studies:
        (study,) = studies.listed()
        studies.submit(study.id)
        wait_until_done(studies, 1)
        before = studies.result(study.id)
        (path,) = (studies.results / EXAMS).rglob("*.json")
        path.unlink()
        if found:
            now = found(studies, study.id)
            assert (now.state, now.score, now.call) == ("new", None, None)
        assert studies.submit(study.id).state in ("waiting", "running", "done")
        wait_until_done(studies, 1)
        assert studies.result(study.id) == before
        assert studies.study(study.id).score == before["score"]
