//! What agent and hub say to each other beside batches: any bytes are a message or none, and a message
//! is read again as it was written.

#![cfg_attr(fuzzing, no_main)]

use phusa_fuzz::{comes_back, fuzz_target, key};
use phusa_protocol::contract::consent::{Agreement, Asked, Proposal, SignedConsent};
use phusa_protocol::digest::Digest;
use phusa_protocol::hello::{Hello, ListAsked, Refusal, Welcome};
use phusa_protocol::identity::{
    Enrol, EnrolAsked, Issued, OneTimeCode, Recover, RecoverAsked, Renew,
};
use phusa_protocol::proof::{Answer, Proof, Question, Summary};
use phusa_protocol::receipt::SignedReceipt;

fuzz_target!(|data: &[u8]| {
    let Some((which, data)) = data.split_first() else { return };
    let hub = key().public();
    match which % 15 {
        0 => drop(comes_back::<Hello>(data)),
        1 => drop(comes_back::<Welcome>(data)),
        2 => drop(comes_back::<Refusal>(data)),
        3 => {
            let Some(receipt) = comes_back::<SignedReceipt>(data) else { return };
            assert!(!receipt.covers(Digest::of(data), &hub), "nobody signed it");
            let signed = SignedReceipt::sign(receipt.receipt, &key());
            assert!(signed.covers(signed.receipt.header, &hub));
        }
        4 => drop(comes_back::<Question>(data)),
        5 => {
            let Some(answer) = comes_back::<Answer>(data) else { return };
            let summary = Summary::from_parts(12, &answer.parts);
            let _ = (summary.total(), summary.differing(&Summary::new(12)));
            answer.named.iter().for_each(|named| drop(named.key()));
        }
        6 => drop(comes_back::<Proof>(data)),
        7 => drop(comes_back::<Asked>(data)),
        8 => {
            let Some(signed) = comes_back::<SignedConsent>(data) else { return };
            let _ = (signed.digest(), signed.number(), signed.is_signed());
        }
        9 => drop((comes_back::<Proposal>(data), comes_back::<Agreement>(data))),
        10 => drop(comes_back::<ListAsked>(data)),
        11 => {
            drop(comes_back::<EnrolAsked>(data));
            let Some(enrol) = comes_back::<Enrol>(data) else { return };
            let _ = (enrol.has_keys(), enrol.digest());
        }
        12 => {
            drop(comes_back::<RecoverAsked>(data));
            let Some(recover) = comes_back::<Recover>(data) else { return };
            let _ = recover.is_signed(&hub);
        }
        13 => {
            drop(comes_back::<Issued>(data));
            let Some(renew) = comes_back::<Renew>(data) else { return };
            let _ = renew.is_known();
        }
        _ => {
            let Ok(text) = std::str::from_utf8(data) else { return };
            let Ok(code) = text.parse::<OneTimeCode>() else { return };
            assert!(code.to_string().parse::<OneTimeCode>().as_ref() == Ok(&code));
            let _ = code.key();
        }
    }
});
