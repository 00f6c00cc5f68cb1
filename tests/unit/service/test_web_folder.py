"""The folder of `serve`: one server at a time."""

from types import SimpleNamespace

import pytest

from simfrcnn.data.ahead import Processes
from simfrcnn.errors import OutputError
from simfrcnn.service import web
from simfrcnn.service.web_settings import ServeOptions


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
