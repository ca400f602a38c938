//! AdamW and the schedules against torch and transformers, recorded in tests/golden/adamw.json.
