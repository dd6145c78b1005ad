//! The request for a timestamp, and what a reply must be: for this digest and nonce, signed by a
//! certificate for timestamps that descends from one that is trusted. Pure.
//!
//! Not looked at: whether that certificate was revoked, and the authority's policy. `openssl ts -verify`
//! checks the same things with other code.

use std::fmt;
use std::time::Duration;

use cms::cert::CertificateChoices;
use cms::cert::x509::attr::Attributes;
use cms::cert::x509::der::asn1::{Int, OctetString};
use cms::cert::x509::der::oid::ObjectIdentifier;
use cms::cert::x509::der::{Decode as _, Encode as _};
use cms::cert::x509::spki::AlgorithmIdentifier;
use cms::signed_data::{SignedData, SignerInfo};
use phusa_protocol::time::Timestamp;
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_tsp::{MessageImprint, TimeStampReq, TimeStampResp, TspVersion, TstInfo};

/// The longest reply that is read; real ones have 2 to 8 KiB.
pub const REPLY_BYTES_MAX: usize = 64 << 10;

const SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1");
const SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2");
const SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3");
const SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
const CONTENT_TYPE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.3");
const MESSAGE_DIGEST: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.4");
const TST_INFO: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.1.4");
const SIGNER_V1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.12");
const SIGNER_V2: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.16.2.47");

/// `id-kp-timeStamping`, as bytes.
const FOR_TIMESTAMPS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 8];

/// Certificates an authority's must descend from.
#[derive(Clone)]
pub struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    /// As the file has them, for whoever verifies elsewhere.
    pub pem: String,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({} certificates)", self.anchors.len())
    }
}

impl Trust {
    /// Reads them; `None` when there is none, or one that is none.
    #[must_use]
    pub fn from_pem(pem: &str) -> Option<Self> {
        use rustls_pki_types::pem::PemObject as _;
        let mut anchors = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            anchors.push(anchor_from_trusted_cert(&certificate.ok()?).ok()?.to_owned());
        }
        (!anchors.is_empty()).then(|| Self { anchors, pem: pem.to_owned() })
    }
}

/// A request, with what its answer must repeat.
#[derive(Debug, Clone)]
pub struct Request {
    /// As it is sent.
    pub der: Vec<u8>,
    imprint: MessageImprint,
    nonce: Int,
}

/// Why a reply is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadReply(&'static str);

impl Request {
    /// For these bytes, with eight bytes of chance.
    ///
    /// # Errors
    /// When it cannot be encoded, which cannot be.
    pub fn new(content: &[u8], mut chance: [u8; 8]) -> Result<Self, BadReply> {
        let wrong = |_| BadReply("the request cannot be encoded");
        // A positive number that begins with no zero: the only form DER has for it.
        chance[0] = (chance[0] & 0x3f) | 0x40;
        let imprint = MessageImprint {
            hash_algorithm: AlgorithmIdentifier { oid: SHA256, parameters: None },
            hashed_message: OctetString::new(Sha256::digest(content).to_vec()).map_err(wrong)?,
        };
        let nonce = Int::new(&chance).map_err(wrong)?;
        let request = TimeStampReq {
            version: TspVersion::V1,
            message_imprint: imprint.clone(),
            req_policy: None,
            nonce: Some(nonce.clone()),
            cert_req: true,
            extensions: None,
        };
        Ok(Self { der: request.to_der().map_err(wrong)?, imprint, nonce })
    }

    /// Checks a reply; when the authority says it was.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, reply: &[u8], trust: &Trust) -> Result<Timestamp, BadReply> {
        let (signed, info) = opened(reply)?;
        let same = info.message_imprint.hash_algorithm.oid == self.imprint.hash_algorithm.oid
            && info.message_imprint.hashed_message == self.imprint.hashed_message;
        if !same {
            return Err(BadReply("it is for another digest than was asked"));
        }
        if info.nonce.as_ref() != Some(&self.nonce) {
            return Err(BadReply("it does not repeat the request's nonce: it answers another one"));
        }
        signed_by(&signed, info.gen_time.to_unix_duration(), trust)?;
        Ok(moment(&info))
    }
}

/// When a reply that was verified before says it was.
///
/// # Errors
/// When it is none.
pub fn time_of(reply: &[u8]) -> Result<Timestamp, BadReply> {
    opened(reply).map(|(_, info)| moment(&info))
}

fn moment(info: &TstInfo) -> Timestamp {
    Timestamp::UNIX_EPOCH.after(info.gen_time.to_unix_duration())
}

fn opened(reply: &[u8]) -> Result<(SignedData, TstInfo), BadReply> {
    let none = |_| BadReply("it is no reply of RFC 3161");
    let reply = TimeStampResp::from_der(reply).map_err(none)?;
    if reply.status.status as u32 > 1 {
        return Err(BadReply("the authority refused the request"));
    }
    let token = reply.time_stamp_token.ok_or(BadReply("it holds no timestamp"))?;
    if token.content_type != SIGNED_DATA {
        return Err(BadReply("its timestamp is not signed"));
    }
    let signed: SignedData = token.content.decode_as().map_err(none)?;
    if signed.encap_content_info.econtent_type != TST_INFO {
        return Err(BadReply("what is signed is no timestamp"));
    }
    let content = signed.encap_content_info.econtent.as_ref();
    let content = content.ok_or(BadReply("what is signed is missing"))?;
    let info = TstInfo::from_der(content.value()).map_err(none)?;
    Ok((signed, info))
}

/// One signer, whose certificate comes along, is for timestamps, descends from a trusted one at the
/// time it signs, and is named in what it signs.
fn signed_by(signed: &SignedData, at: Duration, trust: &Trust) -> Result<(), BadReply> {
    let [signer] = signed.signer_infos.0.as_slice() else {
        return Err(BadReply("it is not signed by one alone"));
    };
    let attributes =
        signer.signed_attrs.as_ref().ok_or(BadReply("its attributes are not signed"))?;
    check_attributes(signed, signer, attributes)?;
    let encoded = attributes.to_der().map_err(|_| BadReply("its attributes are not DER"))?;
    let all = certificates(signed);
    let signature = signer.signature.as_bytes();
    let made_it = |certificate: &&CertificateDer<'_>| {
        EndEntityCert::try_from(*certificate).is_ok_and(|certificate| {
            let by = |algorithm| certificate.verify_signature(algorithm, &encoded, signature);
            ALL_VERIFICATION_ALGS.iter().any(|algorithm| by(*algorithm).is_ok())
        })
    };
    let leaf = all.iter().find(made_it);
    let leaf = leaf.ok_or(BadReply("none of its certificates made its signature"))?;
    if !names(attributes, leaf) {
        return Err(BadReply("what is signed does not name the certificate it is signed with"));
    }
    let certificate =
        EndEntityCert::try_from(leaf).map_err(|_| BadReply("its certificate is none"))?;
    let usage = KeyUsage::required(FOR_TIMESTAMPS);
    let at = UnixTime::since_unix_epoch(at);
    let chain = certificate.verify_for_usage(
        ALL_VERIFICATION_ALGS,
        &trust.anchors,
        &all,
        at,
        usage,
        None,
        None,
    );
    chain.map(drop).map_err(|_| {
        BadReply("its certificate is not for timestamps, or does not descend from `ca_file`")
    })
}

/// The signed attributes say what is signed: its type and its digest.
fn check_attributes(
    signed: &SignedData,
    signer: &SignerInfo,
    attributes: &Attributes,
) -> Result<(), BadReply> {
    let content = signed.encap_content_info.econtent.as_ref().map_or(&[][..], |any| any.value());
    let digest = match signer.digest_alg.oid {
        SHA256 => Sha256::digest(content).to_vec(),
        SHA384 => Sha384::digest(content).to_vec(),
        SHA512 => Sha512::digest(content).to_vec(),
        _ => return Err(BadReply("its digest is not of the SHA-2 family")),
    };
    let said: Option<OctetString> = only(attributes, MESSAGE_DIGEST);
    if said.is_none_or(|said| said.as_bytes() != digest) {
        return Err(BadReply("its content was altered after it was signed"));
    }
    if only::<ObjectIdentifier>(attributes, CONTENT_TYPE) != Some(TST_INFO) {
        return Err(BadReply("its signature is over something else than a timestamp"));
    }
    Ok(())
}

/// The one value of an attribute.
fn only<T>(attributes: &Attributes, oid: ObjectIdentifier) -> Option<T>
where
    T: for<'a> cms::cert::x509::der::DecodeValue<'a> + cms::cert::x509::der::FixedTag + Clone,
{
    let attribute = attributes.iter().find(|attribute| attribute.oid == oid)?;
    let [value] = attribute.values.as_slice() else { return None };
    value.decode_as().ok()
}

/// Whether the attribute that names the signer's certificate holds its digest (RFC 2634, RFC 5035).
fn names(attributes: &Attributes, certificate: &CertificateDer<'_>) -> bool {
    let digests = [
        sha1::Sha1::digest(certificate).to_vec(),
        Sha256::digest(certificate).to_vec(),
        Sha384::digest(certificate).to_vec(),
        Sha512::digest(certificate).to_vec(),
    ];
    let naming = attributes.iter().filter(|a| [SIGNER_V1, SIGNER_V2].contains(&a.oid));
    let mut values = naming.flat_map(|attribute| attribute.values.iter());
    values.any(|value| {
        let held = value.value();
        digests.iter().any(|digest| held.windows(digest.len()).any(|part| part == digest))
    })
}

fn certificates(signed: &SignedData) -> Vec<CertificateDer<'static>> {
    let all = signed.certificates.iter().flat_map(|set| set.0.iter());
    let der = |choice: &CertificateChoices| match choice {
        CertificateChoices::Certificate(certificate) => certificate.to_der().ok(),
        CertificateChoices::Other(_) => None,
    };
    all.filter_map(der).map(CertificateDer::from).collect()
}
