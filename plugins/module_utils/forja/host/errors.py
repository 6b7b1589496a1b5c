# SPDX-License-Identifier: Apache-2.0
"""The one class of errors that Forja raises on purpose."""


class ForjaError(Exception):
    """A fault with a message for a person: what was found, what was expected, what to do.

    A module's `main()` catches this class and ends with its message; anything else that is raised is a defect.
    """
