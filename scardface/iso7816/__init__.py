"""Commands, responses and ATRs (ISO/IEC 7816): bytes only, no I/O.

- `_apdu` has commands and responses, `_atr` the Answer to Reset, `_status` the meanings of status words.
- `_success` has patterns of status words, `_judgement` what they mean for a batch.
- `_exchange` is one command with all its steps, `_tpdu` its encoding for T=0 and T=1; `_channel` (logical channels) and `_layer`
  (secure messaging) change a command before that.
- `_tlv`, `_tags`, `_historical`, `_interface` and `_instructions` describe bytes in text; `_secrets` decides which commands and
  responses carry secrets.
"""
