"""The errors a user is meant to read."""

import pytest
from torch._utils import ExceptionWrapper

from audiocraft.errors import BadArgument, UserError, of_worker


@pytest.mark.parametrize("kind", [UserError, BadArgument])
def test_the_error_of_a_loaders_process_reads_as_it_was(kind: type[UserError]) -> None:
    told = "song.wav cannot be read: it is no audio; remove it"
    try:
        raise kind(told)
    except UserError:
        wrapped = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(kind) as error:
        wrapped.reraise()
    assert "Traceback" in str(error.value) and str(of_worker(error.value)) == told
    assert type(of_worker(error.value)) is kind
    assert of_worker(kind(told)).args == (told,)


def test_one_line_of_bounded_length() -> None:
    assert str(UserError("what\n  is wrong")) == "what is wrong"
    assert len(str(UserError("x" * 10_000))) < 2100
