"""How the responses of one batch are judged, where that is not by 9000 alone. No I/O.

Rules:

- The final status of a command is judged once, when the card has answered and a layer has unwrapped it; the response keeps the
  verdict, so that callbacks, `is_successful` and `check` agree with what the batch does.
- What is not successful ends the batch, unless all of it is to be sent.
- A batch that is judged by 9000 alone and kept by nobody has no `Judgement`: None stands for it, and costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from ._apdu import R_APDU, SuccessRule, judge


@dataclass(slots=True)
class Judgement:
    """How the responses of one batch are judged.

    Attributes:
        success: which status words succeed; None: 9000 alone.
        stop: whether the first response that is not successful ends the batch.
        responses: all responses so far, in order; None: they are not kept.
    """

    success: SuccessRule | None = None
    stop: bool = True
    responses: list[R_APDU] | None = None

    def take_played(self, response: R_APDU) -> R_APDU:
        """As `take`, of a response that others refer to: a copy of it, which is judged and kept."""
        copied = R_APDU(response.data, response.sw1, response.sw2, secret=response.secret)
        self.take(copied)
        return copied

    def take(self, response: R_APDU) -> None:
        """Judge a response that has just been made, and keep it."""
        if self.success is not None:
            judge(response, self.success)
        if self.responses is not None:
            self.responses.append(response)


def ends_batch(response: R_APDU, judgement: Judgement | None) -> bool:
    """Whether no further command goes out after this response, which has been taken."""
    return (judgement is None or judgement.stop) and not response.is_successful()
