"""The error tree of Portico: whose fault it is, is in the type.

::

    PorticoError                      exit code 1
    ├── ConfigError                   exit code 2: the operator's files or arguments
    ├── FieldError                    a device or its line
    │   ├── LinkDown                  nothing answers at the address
    │   ├── NoAnswer                  connected, but no answer within the deadline
    │   ├── BadFrame                  an answer that is not an answer to the request
    │   ├── Refused                   a Modbus exception response
    │   └── Undecodable               registers that are no value of the declared type
    ├── StoreError                    the local database or its disk
    │   ├── StoreFull                 the disk or the quota has no room
    │   ├── StoreCorrupt              SQLite says the file is damaged
    │   └── StoreTooNew               written by a later version of Portico
    ├── UplinkError                   the network or the broker
    │   ├── Unreachable               no connection
    │   └── Rejected                  the broker said no (reason code)
    ├── WireError                     bytes that are not a message of ours
    └── TrustError                    signatures, certificates: an attacker or a mistake
        └── UnknownKey                signed by a key whose certificate was not seen yet

``str(error)`` is one sentence that a technician can act on.  Wrong use by our
own code is ``TypeError`` or ``RuntimeError`` and never in this tree.
"""


class PorticoError(Exception):
    """Base of everything that the world, and not a bug of ours, can cause."""

    exit_code = 1


class ConfigError(PorticoError):
    """A file or an argument is wrong; carries every fault found, each with its place."""

    exit_code = 2

    def __init__(self, sentence: str, faults: tuple[str, ...] = ()) -> None:
        super().__init__(sentence)
        self.faults = faults


class FieldError(PorticoError):
    """A device or its line failed; the agent turns it into readings of bad quality."""


class LinkDown(FieldError):
    """Nothing answers at the address of the line."""


class NoAnswer(FieldError):
    """The line is up, the device gave no answer within the deadline."""


class BadFrame(FieldError):
    """An answer came that is not an answer to the request."""


class Refused(FieldError):
    """The device answered with a Modbus exception (Modbus Application Protocol V1.1b3 §7)."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class Undecodable(FieldError):
    """Registers that are no value of the declared type."""


class StoreError(PorticoError):
    """The local database or the disk below it."""


class StoreFull(StoreError):
    """The disk, or the quota, has no room."""


class StoreCorrupt(StoreError):
    """SQLite found the file damaged."""


class StoreTooNew(StoreError):
    """The file was written by a later version of Portico."""


class AuditUnavailable(StoreError):
    """An entry of the audit cannot be written: what it would tell must not be done."""


class UplinkError(PorticoError):
    """The network or the broker."""


class Unreachable(UplinkError):
    """No connection to the broker."""


class Rejected(UplinkError):
    """The broker refused; ``code`` is the MQTT 5 reason code."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class WireError(PorticoError):
    """Bytes that are not a message of ours."""


class TrustError(PorticoError):
    """A signature, a certificate or an identity does not hold."""


class UnknownKey(TrustError):
    """Signed by a key whose certificate was not seen yet; the receiver may ask for it."""

    def __init__(self, kid: bytes, sentence: str) -> None:
        super().__init__(sentence)
        self.kid = kid
