"""How do results reach a PACS: by C-STORE, or by STOW-RS?"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pydicom
from pydicom.uid import UID

from simfrcnn.errors import ConfigError, SimFrcnnError
from simfrcnn.service.answers import AnswerError, bounded
from simfrcnn.service.extra import import_dicomweb, import_pynetdicom
from simfrcnn.service.options import LOOPBACK, PullOptions, ServiceOptions, require_ae_title

TOKEN = "SIMFRCNN_DICOMWEB_TOKEN"
"""The environment variable with the bearer token of ``--from``; of a node, that of ``--to``."""
STOW_TOKEN = "SIMFRCNN_STOW_TOKEN"
"""That of the first DICOMweb server of ``--to``, where it is another one than ``--from``."""
_PORTS = {"http": 80, "https": 443}

_FIND = UID("1.2.840.10008.5.1.4.1.2.2.1")
"""Study Root Query/Retrieve Information Model - FIND."""

_FAULTS = (OSError, RuntimeError, ValueError)
"""Of an association: an unknown host, one that has ended, a data set that cannot be encoded."""


class SendingError(SimFrcnnError):
    """A result did not reach its target; ``code`` is what a log may say of it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Target(Protocol):
    """Where results go; ``name`` tells two of them apart and holds no secret."""

    @property
    def name(self) -> str:
        """As it is written in --to."""
        ...

    def send(self, path: Path, on_kept: Callable[[], None]) -> None:
        """Send one file.

        Args:
            path: A DICOM file.
            on_kept: Called as soon as the target has said that it keeps the file.

        Raises:
            SendingError: It does not.
        """
        ...

    def has(self, path: Path) -> bool:
        """Whether the target says that it keeps a file already; False also where it does not say.

        Args:
            path: A DICOM file whose sending was begun before and whose answer nobody heard.
        """
        ...


@dataclass(frozen=True)
class Pacs:
    """A Storage SCP: one association for each file."""

    name: str
    called: str
    host: str
    port: int
    options: ServiceOptions

    def send(self, path: Path, on_kept: Callable[[], None]) -> None:
        """C-STORE. Success and warnings count as kept.

        Raises:
            SendingError: There is no association, no answer, or a status of failure.
        """
        dataset = pydicom.dcmread(path)
        with self._naming_faults():
            association = self._associate(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        if not association.is_established:
            what = "rejected" if association.is_rejected else "not established"
            raise SendingError(f"association {what}", f"{self.name}: the association was {what}")
        try:
            if not association.accepted_contexts:
                kind = UID(dataset.SOPClassUID).name
                raise SendingError("SOP class refused", f"{self.name} does not take {kind}")
            with self._naming_faults():
                status = association.send_c_store(dataset)
            self._require_kept(status)
            on_kept()
        finally:
            association.release()

    def has(self, path: Path) -> bool:
        """C-FIND at the level of images, where the archive allows it."""
        wanted = pydicom.dcmread(path, stop_before_pixels=True)
        try:
            association = self._associate(_FIND)
        except _FAULTS:  # such as a name that does not resolve
            return False
        if not association.is_established:
            return False
        try:
            if not association.accepted_contexts:
                return False
            query = _query_for(wanted)
            found = [one for _, one in association.send_c_find(query, _FIND) if one is not None]
        except _FAULTS:  # the association has ended: it does not say
            return False
        finally:
            association.release()
        return any(one.get("SOPInstanceUID") == wanted.SOPInstanceUID for one in found)

    def _associate(self, *context: Any) -> Any:
        entity = application_entity(self.options)
        entity.add_requested_context(*context)
        return entity.associate(self.host, self.port, ae_title=self.called)

    @contextlib.contextmanager
    def _naming_faults(self) -> Iterator[None]:
        """What pynetdicom raises is of the way to the target, not of the file."""
        try:
            yield
        except _FAULTS as error:
            code = type(error).__name__
            raise SendingError(code, f"{self.name}: {code}: {error}") from error

    def _require_kept(self, status: Any) -> None:
        if "Status" not in status:
            raise SendingError("no answer to C-STORE", f"{self.name}: no answer to C-STORE")
        if not (status.Status == 0 or 0xB000 <= status.Status <= 0xBFFF):
            code = f"C-STORE status {status.Status:04X}"
            raise SendingError(code, f"{self.name}: {code}")


@dataclass(frozen=True)
class DicomWeb:
    """A STOW-RS server."""

    name: str
    options: ServiceOptions

    def send(self, path: Path, on_kept: Callable[[], None]) -> None:
        """Store one instance.

        Raises:
            SendingError: The server cannot be reached, refuses, or does not keep it.
        """
        try:
            answer = dicomweb_client(self.name, self.options).store_instances(
                [pydicom.dcmread(path)]
            )
        except Exception as error:  # of the HTTP library, or of an answer that is none
            raise web_error(self.name, error) from error
        if answer.get("FailedSOPSequence"):
            reason = answer.FailedSOPSequence[0].get("FailureReason", 0)
            code = f"STOW-RS failure reason {reason:04X}"
            raise SendingError(code, f"{self.name}: {code}")
        on_kept()

    def has(self, path: Path) -> bool:
        """QIDO-RS for the instance, where the server allows it."""
        wanted = pydicom.dcmread(path, stop_before_pixels=True)
        try:
            found = dicomweb_client(self.name, self.options).search_for_instances(
                study_instance_uid=str(wanted.StudyInstanceUID),
                series_instance_uid=str(wanted.SeriesInstanceUID),
                search_filters={"SOPInstanceUID": str(wanted.SOPInstanceUID)},
            )
        except Exception:  # it does not say, so the file is sent
            return False
        uids = [one.get("00080018", {}).get("Value") for one in found]
        return [str(wanted.SOPInstanceUID)] in uids


def targets_of(options: ServiceOptions) -> tuple[Target, ...]:
    """The targets of ``--to``.

    Raises:
        ConfigError: One is neither AE@HOST:PORT nor a URL, its library is not installed, or a token
            would go to it over plain HTTP.
    """
    return tuple(_target_of(text, options) for text in dict.fromkeys(options.to))


def application_entity(options: ServiceOptions) -> Any:
    """A pynetdicom application entity with our title and time-outs."""
    entity = import_pynetdicom().AE(ae_title=options.aet)
    entity.connection_timeout = options.association_timeout
    entity.acse_timeout = options.association_timeout
    entity.dimse_timeout = options.dimse_timeout
    entity.network_timeout = options.network_timeout
    return entity


def dicomweb_client(url: str, options: ServiceOptions) -> Any:
    """A client that tries once, with our time-out and the token of the environment.

    Answers are read as :func:`~simfrcnn.service.answers.bounded` has it.

    Raises:
        ConfigError: As of :func:`token_for`.
    """
    token = token_for(url, options)
    headers = {"Authorization": f"Bearer {token}"} if token else None
    client = import_dicomweb().DICOMwebClient(
        url, headers=headers, timeout=options.send_timeout, callback=bounded
    )
    client.set_http_retry_params(retry=False)
    return client


def token_for(url: str, options: ServiceOptions) -> str | None:
    """The token that a server may see: one goes to one origin, and no other ever gets it.

    Raises:
        ConfigError: It would go over plain HTTP to another machine.
    """
    source = options.source if isinstance(options, PullOptions) else None
    first = next((text for text in options.to if "://" in text), None)
    if source is not None and _origin(url) == _origin(source):
        token = os.environ.get(TOKEN)
    elif first is not None and _origin(url) == _origin(first):
        token = os.environ.get(STOW_TOKEN) or (os.environ.get(TOKEN) if source is None else None)
    else:
        token = None
    scheme, host, _ = _origin(url)
    if token and scheme == "http" and host not in LOOPBACK:
        raise ConfigError(
            f"the token of {host} would go over plain HTTP, where others can read it: give an "
            f"https:// URL, or take {TOKEN} and {STOW_TOKEN} out of the environment"
        )
    return token or None


def web_error(name: str, error: Exception) -> SendingError:
    """What may be said of a failed request: never its URL, which holds UIDs."""
    if isinstance(error, AnswerError):
        return SendingError(str(error), f"{name}: {error}")
    status = getattr(getattr(error, "response", None), "status_code", None)
    code = type(error).__name__ if status is None else f"HTTP status {status}"
    return SendingError(code, f"{name}: {code}")


def require_url(option: str, url: str) -> str:
    """A URL of a DICOMweb server, without a slash at the end.

    Raises:
        ConfigError: It is none, or holds a password or token, which do not belong there.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{option} is {url!r}; legal is a URL such as https://pacs/dicom-web")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(
            f"{option}: the URL of {parts.hostname} holds a user, query or fragment; put a token "
            f"into the environment variable {TOKEN}"
        )
    return url.rstrip("/")


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port of a URL; RFC 6454."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _query_for(wanted: pydicom.Dataset) -> pydicom.Dataset:
    """An identifier that matches one instance; PS3.4 C.4.1.2."""
    query = pydicom.Dataset()
    query.QueryRetrieveLevel = "IMAGE"
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        setattr(query, keyword, str(wanted[keyword].value))
    return query


def _target_of(text: str, options: ServiceOptions) -> Target:
    if "://" in text:
        import_dicomweb()
        target = DicomWeb(require_url("--to", text), options)
        token_for(target.name, options)  # so that a token that must not go there is refused now
        return target
    found = re.fullmatch(r"([^@]+)@(\[[0-9a-fA-F:]+\]|[^:@]+):(\d{1,5})", text)
    if not found or not 0 < int(found[3]) < 65536:
        raise ConfigError(
            f"--to is {text!r}; legal is AE@HOST:PORT, or the URL of a DICOMweb server"
        )
    require_ae_title("--to", found[1])
    import_pynetdicom()
    return Pacs(text, found[1], found[2].strip("[]"), int(found[3]), options)
