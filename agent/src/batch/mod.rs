//! Folds one commit window of operations into sealed Parquet files, in bounded memory.
