"""Moves tables with dlt, for the benchmark alone: dlt_move.py SOURCE TARGET FOLDER TABLE…

SOURCE is SQLAlchemy's URL of the source, TARGET the URL of a PostgreSQL database, whose schema `bench` is
written. Rows travel as Arrow batches and Parquet files through ADBC, the fastest way that dlt offers.
"""

import os
import sys

source, target, folder, *tables = sys.argv[1:]
os.environ.update(DLT_DATA_DIR=folder, RUNTIME__DLTHUB_TELEMETRY="false", RUNTIME__LOG_LEVEL="WARNING")

import dlt  # noqa: E402 (reads its settings when it is imported)
from dlt.sources.sql_database import sql_table  # noqa: E402

pipeline = dlt.pipeline(
    "bench",
    pipelines_dir=os.path.join(folder, "pipelines"),
    destination=dlt.destinations.postgres(target),
    dataset_name="bench",
)
pipeline.run(
    [
        sql_table(
            credentials=source,
            table=table,
            backend="pyarrow",
            chunk_size=50_000,
            reflection_level="full",
            write_disposition="replace",
        )
        for table in tables
    ],
    loader_file_format="parquet",
)
