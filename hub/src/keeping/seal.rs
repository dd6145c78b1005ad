//! Seals a stream of any length, and opens it again only whole, in its order, and under its name.
//!
//! `"PHK1" · 32 bytes salt`, then pieces of 1 MiB, the last one shorter, each XChaCha20-Poly1305 with a
//! key of the file's own: HMAC-SHA-256 of salt and name under the key of all backups. A piece's nonce
//! is its number and whether it is the last, so that none can be cut off, moved or repeated; the key is
//! of this file alone, so that no nonce is used twice.

use std::io::{self, Read, Write};

use base64::Engine as _;
use chacha20poly1305::aead::{Aead as _, KeyInit as _};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;

const MAGIC: [u8; 4] = *b"PHK1";
const SALT_BYTES: usize = 32;
const PIECE_BYTES: usize = 1 << 20;
const TAG_BYTES: usize = 16;

/// The key that seals every backup: 32 bytes.
#[derive(Clone)]
pub struct BackupKey([u8; 32]);

impl std::fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BackupKey(secret)")
    }
}

impl BackupKey {
    /// From the text of a key file: 32 bytes as base64.
    #[must_use]
    pub fn from_text(text: &str) -> Option<Self> {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text.trim()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// A fresh one.
    ///
    /// # Errors
    /// When the operating system gives no randomness.
    pub fn generate() -> io::Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(no_randomness)?;
        Ok(Self(key))
    }

    /// The text of its key file; whoever has it reads every backup.
    #[must_use]
    pub fn to_secret_text(&self) -> String {
        base64::engine::general_purpose::STANDARD.encode(self.0)
    }

    fn of_file(&self, salt: &[u8; SALT_BYTES], name: &str) -> io::Result<XChaCha20Poly1305> {
        let mac = <Hmac<Sha256> as hmac::Mac>::new_from_slice(&self.0).map_err(io::Error::other)?;
        let mac = mac.chain_update(b"phusa backup v1").chain_update(salt);
        let key = mac.chain_update(name.as_bytes()).finalize().into_bytes();
        Ok(XChaCha20Poly1305::new(&key))
    }
}

fn nonce(number: u64, last: bool) -> XNonce {
    let mut nonce = [0; 24];
    for (to, from) in nonce.iter_mut().zip(number.to_be_bytes().iter().chain([&u8::from(last)])) {
        *to = *from;
    }
    XNonce::from(nonce)
}

/// Seals what is written to it.
pub struct Sealing<W: Write> {
    to: W,
    cipher: XChaCha20Poly1305,
    piece: Vec<u8>,
    number: u64,
}

impl<W: Write> Sealing<W> {
    /// Begins a file of this name.
    ///
    /// # Errors
    /// When `to` cannot be written or there is no randomness.
    pub fn new(key: &BackupKey, name: &str, mut to: W) -> io::Result<Self> {
        let mut salt = [0; SALT_BYTES];
        getrandom::fill(&mut salt).map_err(no_randomness)?;
        let cipher = key.of_file(&salt, name)?;
        to.write_all(&MAGIC)?;
        to.write_all(&salt)?;
        Ok(Self { to, cipher, piece: Vec::with_capacity(PIECE_BYTES), number: 0 })
    }

    /// Writes the last piece and gives back what was written to.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.put(true)?;
        Ok(self.to)
    }

    fn put(&mut self, last: bool) -> io::Result<()> {
        let sealed = self.cipher.encrypt(&nonce(self.number, last), self.piece.as_slice());
        let sealed = sealed.map_err(|_| io::Error::other("cannot seal"))?;
        self.number += 1;
        self.piece.clear();
        self.to.write_all(&sealed)
    }
}

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.piece.len() == PIECE_BYTES {
            self.put(false)?;
        }
        let taken = bytes.len().min(PIECE_BYTES - self.piece.len());
        self.piece.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// Opens what was sealed; an error of kind `InvalidData` says that it is damaged, of another name, or
/// sealed with another key.
pub struct Opening<R: Read> {
    from: R,
    cipher: XChaCha20Poly1305,
    number: u64,
    /// Sealed bytes that were read ahead: whether a piece is the last shows in what follows it.
    ahead: Vec<u8>,
    open: Vec<u8>,
    given: usize,
    over: bool,
}

impl<R: Read> Opening<R> {
    /// Begins to read a file of this name.
    ///
    /// # Errors
    /// When it is none.
    pub fn new(key: &BackupKey, name: &str, mut from: R) -> io::Result<Self> {
        let mut head = [0; MAGIC.len() + SALT_BYTES];
        from.read_exact(&mut head)?;
        let (magic, salt) = head.split_first_chunk::<4>().ok_or_else(damaged)?;
        let salt = salt.first_chunk::<SALT_BYTES>().ok_or_else(damaged)?;
        if *magic != MAGIC {
            return Err(damaged());
        }
        let cipher = key.of_file(salt, name)?;
        let (ahead, open) = (Vec::new(), Vec::new());
        Ok(Self { from, cipher, number: 0, ahead, open, given: 0, over: false })
    }

    fn next_piece(&mut self) -> io::Result<()> {
        const SEALED_BYTES: usize = PIECE_BYTES + TAG_BYTES;
        let wanted = SEALED_BYTES + 1;
        let missing = wanted.saturating_sub(self.ahead.len()) as u64;
        self.from.by_ref().take(missing).read_to_end(&mut self.ahead)?;
        let last = self.ahead.len() < wanted;
        let rest = self.ahead.split_off(self.ahead.len().min(SEALED_BYTES));
        let opened = self.cipher.decrypt(&nonce(self.number, last), self.ahead.as_slice());
        self.open = opened.map_err(|_| damaged())?;
        (self.ahead, self.given, self.over) = (rest, 0, last);
        self.number += 1;
        Ok(())
    }
}

impl<R: Read> Read for Opening<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while self.given == self.open.len() && !self.over {
            self.next_piece()?;
        }
        let mut rest = self.open.get(self.given..).unwrap_or_default();
        let read = rest.read(to)?;
        self.given += read;
        Ok(read)
    }
}

fn no_randomness(error: getrandom::Error) -> io::Error {
    io::Error::other(error.to_string())
}

fn damaged() -> io::Error {
    let what = "the seal does not open: damaged, moved, or sealed with another key";
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> BackupKey {
        BackupKey::from_text(&base64::engine::general_purpose::STANDARD.encode([byte; 32])).unwrap()
    }

    fn sealed(plain: &[u8]) -> Vec<u8> {
        let mut sealing = Sealing::new(&key(1), "a", Vec::new()).unwrap();
        sealing.write_all(plain).unwrap();
        sealing.finish().unwrap()
    }

    fn opened(key: &BackupKey, name: &str, sealed: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        Opening::new(key, name, sealed)?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    #[test]
    fn a_stream_opens_whole_and_under_its_name_and_no_other() {
        for length in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES] {
            let plain: Vec<u8> = (0..length).map(|n| u8::try_from(n % 251).unwrap()).collect();
            let sealed = sealed(&plain);
            assert_eq!(opened(&key(1), "a", &sealed).unwrap(), plain, "{length}");
            assert!(opened(&key(1), "b", &sealed).is_err());
            assert!(opened(&key(2), "a", &sealed).is_err());
            // Cut anywhere, at the end of a piece too.
            for cut in [1, 16, 17, length + 16, sealed.len() - 36] {
                let cut = sealed.len().saturating_sub(cut);
                assert!(opened(&key(1), "a", &sealed[..cut]).is_err(), "{length} cut at {cut}");
            }
            for at in [0, 4, 36, sealed.len() - 1] {
                let mut other = sealed.clone();
                other[at] ^= 1;
                assert!(opened(&key(1), "a", &other).is_err(), "{length} flipped at {at}");
            }
        }
        let two = sealed(&vec![7; 2 * PIECE_BYTES]);
        let (head, pieces) = two.split_at(36);
        let (first, second) = pieces.split_at(PIECE_BYTES + TAG_BYTES);
        assert!(opened(&key(1), "a", &[head, second, first].concat()).is_err());
        assert!(opened(&key(1), "a", &[head, first, first].concat()).is_err());
        assert!(opened(&key(1), "a", &[head, first].concat()).is_err());
    }
}
