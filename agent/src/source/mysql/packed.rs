//! A bound on packed transactions: the driver unpacks each as a whole in memory before it hands it
//! on, so the server is asked how large one is before the driver gets to see it.
//!
//! The event before it tells how many bytes the transaction has in the log. Few enough cannot hold
//! too much; of the others the server tells the size that they unpack to.

use phusa_protocol::fault::{Code, Fault};

use super::catalogue::literal;
use super::session::{Session, get};

/// A transaction that unpacks to more is not taken from the log: it would stand in the agent's
/// memory as a whole.
const UNPACKED_BYTES_MAX: u64 = 256 << 20;

/// So many bytes of a log that packs transactions cannot hold more than that: zstd makes at most
/// 128 KiB of 4 bytes.
const UNASKED_BYTES: u64 = UNPACKED_BYTES_MAX / 32_768;

/// The same of a log that is not known to pack them: a session can by itself, and rows of a
/// database are not packed to less than a 256th.
const UNASKED_PLAIN_BYTES: u64 = 1 << 20;

/// Whether it must be asked how large a transaction of so many bytes in the log is.
pub(super) fn must_be_asked(logged_bytes: u64, packs: bool) -> bool {
    logged_bytes > if packs { UNASKED_BYTES } else { UNASKED_PLAIN_BYTES }
}

/// Refuses the transaction whose first event stands here, where it unpacks to too much.
///
/// # Errors
/// `source_gap`: only a full read gets past it.
pub(super) async fn check(session: &mut Session, (file, offset): (&str, u64)) -> Result<(), Fault> {
    let doing = format!("cannot ask how large the transaction at {file}:{offset} is");
    let sql = format!("show binlog events in {} from {offset} limit 1", literal(file));
    // A file that was purged under the reader is not shown, and whoever reads it goes on.
    let Some(rows) = session.rows_if_allowed(&doing, &sql).await? else { return Ok(()) };
    let Some(row) = rows.first() else { return Ok(()) };
    refuse((file, offset), unpacked_bytes(&get::<String>(row, 5)?))
}

fn refuse((file, offset): (&str, u64), unpacked_bytes: Option<u64>) -> Result<(), Fault> {
    let Some(bytes) = unpacked_bytes.filter(|bytes| *bytes > UNPACKED_BYTES_MAX) else {
        return Ok(());
    };
    let what = format!(
        "the transaction at {file}:{offset} is packed (binlog_transaction_compression) and unpacks \
         to {} MiB, of which at most {} are held in memory; the table is read anew instead",
        bytes >> 20,
        UNPACKED_BYTES_MAX >> 20
    );
    Err(Fault::new(Code::SourceGap, what))
}

/// What the server says of a packed transaction: `compression='ZSTD', decompressed_size=2116 bytes`.
fn unpacked_bytes(said: &str) -> Option<u64> {
    let (_, size) = said.split_once("decompressed_size=")?;
    let end = size.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(size.len());
    size.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_could_be_too_large_is_asked_for() {
        let check = |bytes: u64, packs: bool, expected: bool| {
            assert_eq!(must_be_asked(bytes, packs), expected, "{bytes} {packs}");
        };
        check(0, true, false);
        check(8 << 10, true, false);
        check((8 << 10) + 1, true, true);
        check(1 << 20, false, false);
        check((1 << 20) + 1, false, true);
    }

    #[test]
    fn a_transaction_that_unpacks_to_too_much_is_refused_before_it_is_unpacked() {
        let check = |said: &str, expected: Option<u64>, refused: bool| {
            assert_eq!(unpacked_bytes(said), expected, "{said}");
            let fault = refuse(("b.000001", 157), expected).err();
            assert_eq!(fault.map(|fault| fault.code), refused.then_some(Code::SourceGap));
        };
        check("compression='ZSTD', decompressed_size=2116 bytes", Some(2_116), false);
        check("compression='ZSTD', decompressed_size=268435456 bytes", Some(256 << 20), false);
        check("compression='ZSTD', decompressed_size=268435457 bytes", Some(268_435_457), true);
        check("BEGIN", None, false);
        check("decompressed_size=", None, false);
    }
}
