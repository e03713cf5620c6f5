"""The fault catalogue: every fault that a client may get, with its code and what to do about it.

An *error* is ours, a *fault* is what a client gets. Any plugin may raise any of these classes, which
are all taken from here; a family is a module. A code, once released, is never reused or renumbered
(docs/errors.md); docs/faults.md is made from these modules.
"""

# ruff: noqa: F403  (what stands here is what is public)

from tidegate.faults.authentication import *
from tidegate.faults.codes import FIRST_FREE_CODE as FIRST_FREE_CODE
from tidegate.faults.codes import Catalogue as Catalogue
from tidegate.faults.codes import catalogue as catalogue
from tidegate.faults.codes import merge as merge
from tidegate.faults.codes import reference as reference
from tidegate.faults.database import *
from tidegate.faults.fault import Fault as Fault
from tidegate.faults.fault import FieldError as FieldError
from tidegate.faults.protocol import *
from tidegate.faults.resource import *
from tidegate.faults.security import *
from tidegate.faults.system import *
from tidegate.faults.validation import *
