"""The SGLang that draftbench knows, apart from what starts it: many ask for the number alone."""

TESTED_SGLANG = "0.5.17"
