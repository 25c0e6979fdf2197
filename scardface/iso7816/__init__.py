"""What a card says and is told (ISO/IEC 7816): pure bytes, no I/O.

- `_apdu` is a command and a response, `_atr` the answer to reset, `_status` the status words in words.
- `_exchange` is one command with all its steps, `_tpdu` how each goes out over T=0 and T=1, `_channel` and `_layer` what may stand
  between the two.
- `_tlv`, `_tags`, `_historical`, `_interface` and `_instructions` are the tables by which bytes are put into words; `_secrets` says
  which command's data or answer is a secret.
"""
