//! The settings of the private cluster's server.

use std::path::Path;

/// Enough to keep the upper levels of every index; the rest is the operating system's cache.
const SHARED_BUFFERS_BYTES_MAX: u64 = 256 << 20;

/// Less than this and the server does not work well.
const SHARED_BUFFERS_BYTES_MIN: u64 = 16 << 20;

/// Connections beside the hub's pool: commands, backups, a person with psql.
const OTHER_CONNECTIONS: usize = 20;

/// The text of `postgresql.conf`.
pub(super) fn settings(socket_dir: &Path, connections_max: usize, has_lz4: bool) -> String {
    let wal_compression = if has_lz4 { "lz4" } else { "on" };
    let socket_dir = socket_dir.display().to_string().replace('\'', "''");
    let buffers = shared_buffers_bytes() >> 10;
    let connections = connections_max.saturating_add(OTHER_CONNECTIONS);
    format!(
        "\
# Written by phusa-hub at each start. Own settings belong into local.conf beside this file.
listen_addresses = ''
unix_socket_directories = '{socket_dir}'
unix_socket_permissions = 0700
max_connections = {connections}

# What is acknowledged is on disk.
fsync = on
synchronous_commit = on
full_page_writes = on
wal_level = replica
wal_compression = {wal_compression}
wal_buffers = 64MB
max_wal_size = 4GB
min_wal_size = 512MB
checkpoint_timeout = 15min

shared_buffers = {buffers}kB
maintenance_work_mem = 128MB
random_page_cost = 1.1
jit = off

# Rows are secret: statements, and errors that may quote values, are not logged.
logging_collector = on
log_directory = '../log'
log_filename = 'postgresql-%a.log'
log_truncate_on_rotation = on
log_rotation_age = 1d
log_rotation_size = 0
log_timezone = 'UTC'
timezone = 'UTC'
log_min_messages = log
log_min_error_statement = panic
log_error_verbosity = terse
log_statement = none
log_checkpoints = off

include_if_exists = 'local.conf'
"
    )
}

fn shared_buffers_bytes() -> u64 {
    let system = rustix::system::sysinfo();
    let memory_bytes = system.totalram.saturating_mul(u64::from(system.mem_unit));
    (memory_bytes / 8).clamp(SHARED_BUFFERS_BYTES_MIN, SHARED_BUFFERS_BYTES_MAX)
}
