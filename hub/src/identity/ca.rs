//! The CA: a root kept away from the hub, the hub's intermediate, the hub's own certificate.
//!
//! The root's folder holds `root.key` and `root.pem` and is needed only to begin and to replace an
//! intermediate. The hub's folder holds `ca.pem` (every root that is trusted), `issuing.{pem,key}`
//! (the intermediate that signs agents) and `hub.{pem,key}`. A certificate travels with those
//! between it and its root and with the root, so that whoever knows a fingerprint finds it there.

use std::path::Path;

use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::facts::Facts;
use super::files::{
    existing, key_pair, make_dir, not_made, set_days, signing_key, write_public, write_secret,
};
use super::issue::{broker_params, hub_params};
use super::passphrase::{self, Passphrase};

/// A root lives longer than the machines it is used on.
const ROOT_DAYS: u32 = 3_650;

/// An intermediate is replaced every other year, with the root at hand.
const ISSUING_DAYS: u32 = 730;

/// What a hub is made with.
#[derive(Debug, Clone)]
pub struct HubWanted<'a> {
    /// The root's folder.
    pub root_dir: &'a Path,
    /// The hub's folder.
    pub dir: &'a Path,
    /// Names or addresses agents reach the hub by; at least one.
    pub names: Vec<String>,
    /// How long the hub's own certificate is valid.
    pub days: u32,
    /// Opens the root's key, where it is sealed.
    pub passphrase: Option<&'a Passphrase>,
}

/// Makes a root, its key under a passphrase where there is one; one that is there is never replaced.
///
/// # Errors
/// When there is one already, or a file cannot be written.
pub fn init(root_dir: &Path, name: &str, passphrase: Option<&Passphrase>) -> Result<Facts, Fault> {
    make_dir(root_dir)?;
    let (key, certificate) = (root_dir.join("root.key"), root_dir.join("root.pem"));
    if certificate.exists() || key.exists() {
        let what = format!("{} holds a root already; a root is never replaced", root_dir.display());
        return Err(Fault::new(Code::ConfigInvalid, what));
    }
    let file = key;
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(not_made)?;
    keep_root_key(&file, &key, passphrase)?;
    let mut params = authority(name, 1)?;
    set_days(&mut params, ROOT_DAYS);
    let made = params.self_signed(&key).map_err(not_made)?;
    write_public(&certificate, &made.pem())?;
    Facts::read(made.der())
}

/// Makes a new intermediate and the hub's own certificate under it, from the root. Earlier roots
/// stay trusted, and so do agents under an earlier intermediate, which they carry with them.
///
/// # Errors
/// When the root is none, or a file cannot be written.
pub fn issue(wanted: &HubWanted<'_>) -> Result<(), Fault> {
    let root = root_of(wanted.root_dir, wanted.passphrase)?;
    make_dir(&wanted.dir.join("agents"))?;
    let signing = signing_key(&wanted.dir.join("signing.key"))?.public();
    write_public(&wanted.dir.join("signing.pub"), &signing.to_string())?;
    trust(wanted.root_dir, wanted.dir)?;
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(not_made)?;
    let issuer = Issuer::from_ca_cert_pem(&root.0, root.1).map_err(not_made)?;
    let mut params = authority("Phù Sa hub", 0)?;
    params.use_authority_key_identifier_extension = true;
    set_days(&mut params, ISSUING_DAYS);
    let made = params.signed_by(&key, &issuer).map_err(not_made)?;
    // The key first: a certificate without its key would be worse than a key too many.
    write_secret(&wanted.dir.join("issuing.key"), &key.serialize_pem())?;
    write_public(&wanted.dir.join("issuing.pem"), &made.pem())?;
    certify(wanted.dir, (hub_params(&wanted.names)?, wanted.days), &root.0, &wanted.dir.join("hub"))
}

/// Trusts the root of this folder too: agents learn it when they next renew.
///
/// # Errors
/// When it is none, or `ca.pem` cannot be written.
pub fn trust(root_dir: &Path, dir: &Path) -> Result<(), Fault> {
    let path = root_dir.join("root.pem");
    let root = existing(&path)?.ok_or_else(|| none(&path))?;
    let file = dir.join("ca.pem");
    let known = existing(&file)?.unwrap_or_default();
    let (found, new) = (Facts::of_pem(known.as_bytes())?, Facts::of_pem(root.as_bytes())?);
    if new.iter().all(|new| found.iter().any(|known| known.fingerprint == new.fingerprint)) {
        return Ok(());
    }
    write_public(&file, format!("{}\n{}", known.trim(), root.trim()).trim())
}

/// Trusts the root with this fingerprint no longer; the last one stays.
///
/// # Errors
/// When there is none of it, or it is the only one, or the hub's own certificate is under it.
pub fn distrust(dir: &Path, fingerprint: &Digest) -> Result<(), Fault> {
    let file = dir.join("ca.pem");
    let text = existing(&file)?.ok_or_else(|| none(&file))?;
    let wrong = |why: &str| Fault::new(Code::ConfigInvalid, format!("{fingerprint}: {why}"));
    let mut kept = Vec::new();
    for pem in certificates(&text) {
        let facts = Facts::of_pem(pem.as_bytes())?;
        if facts.first().is_some_and(|facts| facts.fingerprint != *fingerprint) {
            kept.push(pem);
        }
    }
    if kept.len() == certificates(&text).len() {
        return Err(wrong("no root in ca.pem has this fingerprint"));
    }
    if kept.is_empty() {
        return Err(wrong("it is the only root; trust another one first"));
    }
    let own = existing(&dir.join("hub.pem"))?.unwrap_or_default();
    if Facts::of_pem(own.as_bytes())?.iter().any(|facts| facts.fingerprint == *fingerprint) {
        return Err(wrong(
            "the hub's own certificate is under it; `ca issue` from another root first",
        ));
    }
    write_public(&file, &kept.join("\n"))
}

/// Renews the hub's own certificate, under the intermediate it has; the root is not needed.
///
/// # Errors
/// When there is no intermediate or no earlier certificate whose names could be kept.
pub fn renew(dir: &Path, days: u32) -> Result<(), Fault> {
    let path = dir.join("hub.pem");
    let own = existing(&path)?.ok_or_else(|| none(&path))?;
    let facts = Facts::of_pem(own.as_bytes())?;
    let root = certificates(&own).pop().unwrap_or_default();
    let hosts = facts.first().map(|facts| facts.hosts.clone()).unwrap_or_default();
    certify(dir, (hub_params(&hosts)?, days), &root, &dir.join("hub"))
}

/// Makes or renews, in `out`, what a broker for the link needs: its certificate for these names under the
/// hub's intermediate, its key, and the roots that agents and hub descend from.
///
/// # Errors
/// When the hub's folder holds no intermediate, or a file cannot be written.
pub fn broker(dir: &Path, out: &Path, (names, days): (&[String], u32)) -> Result<(), Fault> {
    let read = |name: &str| {
        let path = dir.join(name);
        existing(&path)?.ok_or_else(|| none(&path))
    };
    let root = certificates(&read("hub.pem")?).pop().unwrap_or_default();
    make_dir(out)?;
    write_public(&out.join("ca.pem"), &read("ca.pem")?)?;
    certify(dir, (broker_params(names)?, days), &root, &out.join("broker"))
}

/// Every certificate of the hub's folder, by file.
///
/// # Errors
/// When one cannot be read.
pub fn show(dir: &Path) -> Result<Vec<(&'static str, Vec<Facts>)>, Fault> {
    let mut shown = Vec::new();
    for name in ["ca.pem", "issuing.pem", "hub.pem", "root.pem"] {
        if let Some(text) = existing(&dir.join(name))? {
            shown.push((name, Facts::of_pem(text.as_bytes())?));
        }
    }
    if shown.is_empty() {
        return Err(none(&dir.join("ca.pem")));
    }
    Ok(shown)
}

/// Writes `<stem>.pem` for the key in `<stem>.key`, under the intermediate of the hub's folder.
fn certify(
    dir: &Path,
    (mut params, days): (CertificateParams, u32),
    root: &str,
    stem: &Path,
) -> Result<(), Fault> {
    let path = dir.join("issuing.pem");
    let between = existing(&path)?.ok_or_else(|| none(&path))?;
    let issuer = Issuer::from_ca_cert_pem(&between, key_pair(&dir.join("issuing.key"))?);
    set_days(&mut params, days);
    let key = key_pair(&stem.with_extension("key"))?;
    let made = params.signed_by(&key, &issuer.map_err(not_made)?).map_err(not_made)?;
    let chain = [made.pem().trim(), between.trim(), root.trim()].join("\n");
    write_public(&stem.with_extension("pem"), &chain)
}

/// Whether the key of the root in this folder is under a passphrase.
///
/// # Errors
/// When there is none, or it cannot be read.
pub fn is_sealed(root_dir: &Path) -> Result<bool, Fault> {
    let file = root_dir.join("root.key");
    Ok(passphrase::is_sealed(&existing(&file)?.ok_or_else(|| none(&file))?))
}

/// Puts the key of the root in this folder under another passphrase, or under none.
///
/// # Errors
/// When the root is none, the old passphrase does not open it, or the file cannot be written.
pub fn protect(
    root_dir: &Path,
    old: Option<&Passphrase>,
    new: Option<&Passphrase>,
) -> Result<(), Fault> {
    let (_, key) = root_of(root_dir, old)?;
    keep_root_key(&root_dir.join("root.key"), &key, new)
}

fn keep_root_key(file: &Path, key: &KeyPair, under: Option<&Passphrase>) -> Result<(), Fault> {
    let sealed = under.map(|passphrase| passphrase::seal(key, passphrase)).transpose()?;
    write_secret(file, &sealed.unwrap_or_else(|| key.serialize_pem()))
}

fn root_of(root_dir: &Path, passphrase: Option<&Passphrase>) -> Result<(String, KeyPair), Fault> {
    let (pem, key) = (root_dir.join("root.pem"), root_dir.join("root.key"));
    let text = existing(&pem)?.ok_or_else(|| none(&pem))?;
    let secret = existing(&key)?.ok_or_else(|| none(&key))?;
    match passphrase {
        Some(passphrase) if passphrase::is_sealed(&secret) => {
            Ok((text, passphrase::open(&secret, passphrase)?))
        }
        None if passphrase::is_sealed(&secret) => {
            let what = format!("{} is under a passphrase, and none was given", key.display());
            Err(Fault::new(Code::SecretUnreadable, what))
        }
        Some(_) | None => Ok((text, key_pair(&key)?)),
    }
}

fn authority(name: &str, below: u8) -> Result<CertificateParams, Fault> {
    let mut params = CertificateParams::new(Vec::new()).map_err(not_made)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // Two roots of one name must not be taken for each other.
    let mut mark = [0; 4];
    getrandom::fill(&mut mark).map_err(super::files::not_made_for)?;
    let mark = phusa_protocol::hex::encode(&mark);
    params.distinguished_name.push(DnType::CommonName, format!("{name} {mark}"));
    Ok(params)
}

/// Each certificate of a PEM text as PEM.
fn certificates(text: &str) -> Vec<String> {
    let end = "-----END CERTIFICATE-----";
    let each = text.split_inclusive(end).map(str::trim).filter(|part| part.ends_with(end));
    let begun = each.filter_map(|part| part.find("-----BEGIN").and_then(|at| part.get(at..)));
    begun.map(str::to_owned).collect()
}

/// SHA-256 of the first root in this PEM text: what a one-time code carries. The newest root, to
/// which the hub's own certificate leads, is the last of its chain.
///
/// # Errors
/// When there is none.
pub fn root_fingerprint(chain: &[u8], roots: &[u8]) -> Result<Digest, Fault> {
    let trusted = Facts::of_pem(roots)?;
    let shown = CertificateDer::pem_slice_iter(chain).filter_map(Result::ok);
    let shown: Vec<Digest> = shown.map(|der| Digest::of(&der)).collect();
    let found = trusted.iter().find(|root| shown.contains(&root.fingerprint));
    found.map(|root| root.fingerprint).ok_or_else(|| {
        let what = "certificate_file does not end with its root: make it with `phusa-hub ca`";
        Fault::new(Code::ConfigInvalid, what)
    })
}

fn none(path: &Path) -> Fault {
    Fault::new(Code::SecretUnreadable, format!("{} is not there", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_hub_is_made_from_a_root_renewed_without_it_and_moved_to_another() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second, hub] = ["one", "two", "hub"].map(|name| dir.path().join(name));
        let secret = Passphrase::new("bến Ngự chiều mưa".to_owned()).unwrap();
        let root = init(&first, "Tỉnh", Some(&secret)).unwrap();
        assert!(root.is_ca && root.is_root);
        assert_eq!(init(&first, "Tỉnh", None).unwrap_err().code, Code::ConfigInvalid);
        let names = vec!["127.0.0.1".to_owned(), "hub.example".to_owned()];
        let mut wanted = HubWanted {
            root_dir: &first,
            dir: &hub,
            names: names.clone(),
            days: 5,
            passphrase: None,
        };
        assert_eq!(issue(&wanted).unwrap_err().code, Code::SecretUnreadable);
        wanted.passphrase = Some(&secret);
        issue(&wanted).unwrap();
        protect(&first, Some(&secret), None).unwrap();
        assert!(!is_sealed(&first).unwrap());
        protect(&first, None, Some(&secret)).unwrap();
        assert!(is_sealed(&first).unwrap());
        let read = |name: &str| fs::read_to_string(hub.join(name)).unwrap();
        let fingerprint =
            || root_fingerprint(read("hub.pem").as_bytes(), read("ca.pem").as_bytes());
        assert_eq!(fingerprint().unwrap(), root.fingerprint);
        let before = read("hub.pem");
        renew(&hub, 9).unwrap();
        let own = Facts::of_pem(read("hub.pem").as_bytes()).unwrap();
        assert_eq!((own.len(), &own[0].hosts), (3, &names));
        assert_ne!(read("hub.pem"), before);

        let next = init(&second, "Tỉnh", None).unwrap();
        assert_ne!(next.subject, root.subject);
        trust(&second, &hub).unwrap();
        trust(&second, &hub).unwrap();
        assert_eq!(Facts::of_pem(read("ca.pem").as_bytes()).unwrap().len(), 2);
        assert!(distrust(&hub, &root.fingerprint).unwrap_err().chain().contains("own certificate"));
        wanted.root_dir = &second;
        issue(&wanted).unwrap();
        assert_eq!(fingerprint().unwrap(), next.fingerprint);
        distrust(&hub, &root.fingerprint).unwrap();
        assert!(distrust(&hub, &root.fingerprint).unwrap_err().chain().contains("no root"));
        assert!(distrust(&hub, &next.fingerprint).unwrap_err().chain().contains("only root"));
        for secret in ["one/root.key", "hub/issuing.key", "hub/hub.key", "hub/signing.key"] {
            let mode = fs::metadata(dir.path().join(secret)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{secret}");
        }
        assert_eq!(show(&hub).unwrap().len(), 3);
    }

    #[test]
    fn a_brokers_certificate_is_for_its_own_names_and_dials_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let (root_dir, hub) = (dir.path().join("root"), dir.path().join("hub"));
        init(&root_dir, "gốc", None).unwrap();
        let out = dir.path().join("broker");
        let names = ["broker.hue.vn".to_owned()];
        assert!(broker(&hub, &out, (&names, 30)).is_err(), "no intermediate yet");
        let wanted = HubWanted {
            root_dir: &root_dir,
            dir: &hub,
            names: vec!["hub.hue.vn".to_owned()],
            days: 30,
            passphrase: None,
        };
        issue(&wanted).unwrap();
        broker(&hub, &out, (&names, 30)).unwrap();
        let text = |file: &Path| fs::read_to_string(file).unwrap();
        let facts = Facts::of_pem(text(&out.join("broker.pem")).as_bytes()).unwrap();
        assert_eq!((facts.len(), facts[0].hosts.as_slice()), (3, names.as_slice()));
        assert_eq!(facts[0].subject, "phusa-broker");
        assert_eq!(text(&out.join("ca.pem")), text(&hub.join("ca.pem")));
    }
}
