"""Which readers there are, what is in them, and who uses it: `python show_readers.py`."""

from scardface import sync
from scardface.iso7816 import explain_atr


def main() -> None:
    states = sync.states()
    if not states:
        print("no reader is plugged in; `scardface doctor` says what may be wrong")
    for name, state in states.items():
        if not state.present:
            print(f"{name}: empty")
            continue
        if state.mute:
            print(f"{name}: a card that does not answer; is it the right way round?")
            continue
        used = "used exclusively" if state.exclusive else "in use" if state.in_use else "free"
        print(f"{name}: {state.atr.hex(' ')}, {used}")
        for row in explain_atr(state.atr):
            print(f"    {row.name}: {row.meaning}")
    if any(state.in_use for state in states.values()):
        print("programs that have PC/SC open:", sync.other_programs() or "not known")


if __name__ == "__main__":
    main()
