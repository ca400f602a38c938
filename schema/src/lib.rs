//! The contracts between the stages: ids, Arrow tables, Parquet, IPC and JSON Lines.
