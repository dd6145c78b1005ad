//! A first mapping for a contract: which column of a table seems to be which field, by names without
//! their marks, by what both names are about, by types, and by a sample of values where there is one.
//! A person decides; what is not sure says so and why.

use phusa_protocol::contract::{Class, Contract, ContractField};
use phusa_protocol::value::Kind;

use super::convert::Conversion;
use super::evidence::Evidence;
use super::looks::{Look, by_name};
use super::syllable::folded;
use crate::source::{Column, Native};

/// How sure a proposal is, of a hundred.
pub type Sureness = u32;

/// At least so sure that no one need look twice.
pub const SURE: Sureness = 90;
/// Less than this is not proposed.
const SURENESS_MIN: Sureness = 50;

/// What is proposed for one contract field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Where the field stands in the contract.
    pub field: usize,
    /// Where the column stands among the columns.
    pub column: usize,
    /// How sure it is.
    pub sureness: Sureness,
    /// How the value would become the contract's type.
    pub conversion: Bridge,
    /// Why it is so sure and no surer.
    pub reasons: Vec<Reason>,
}

/// Something that speaks for a proposal or against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The names are the same, but for marks and signs.
    SameName,
    /// The names are known to mean the same.
    SameMeaning,
    /// The names begin with the same letters, are about the same, or share words.
    LikeName,
    /// The type does not become the field's by itself or by a text that `convert` reads.
    OtherType,
    /// So many of a hundred values look like what the field's name says.
    ValuesLook(Look, u64),
    /// The values look like something else than the field's name says.
    ValuesLookElse(Look),
    /// So many of the sampled values are null, and the field is required.
    Nulls(u64),
    /// The longest value has so many characters, and so many are agreed.
    TooLong(usize, u32),
}

/// How a column's type becomes the field's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bridge {
    /// Exactly, by itself.
    Exact,
    /// A text that `convert` must read.
    Convert,
    /// No way is known; a person must find one.
    None,
}

/// Words that mean the same in the names of fields and columns, folded and run together.
const SAME: [&[&str]; 12] = [
    &["sodinhdanh", "cccd", "socccd", "cmnd", "socmnd", "sdd", "sddcn", "nationalid", "cancuoc"],
    &["hoten", "hovaten", "fullname", "tendaydu", "hvt"],
    &["ngaysinh", "ngsinh", "dob", "birthday", "birthdate", "ntns"],
    &["gioitinh", "gt", "phai", "gender", "gendercode", "sex"],
    &["dantoc", "madantoc", "ethnicity", "ethnicitycode"],
    &["tongiao", "matongiao", "religion", "religioncode"],
    &["diachi", "dchi", "address", "thuongtru", "noithuongtru"],
    &["maxa", "wardcode", "communecode", "xa", "maphuongxa"],
    &["dienthoai", "sodienthoai", "sdt", "phone", "mobile", "didong"],
    &["email", "thudientu", "mail"],
    &["nhommau", "bloodtype"],
    &["tinhtranghonnhan", "honnhan", "maritalcode", "maritalstatus", "tthn"],
];

/// The best column for each field, no column twice; sure ones first come to their columns.
/// `evidence` is of the columns in their order, and empty where no values were looked at.
#[must_use]
pub fn propose(contract: &Contract, columns: &[Column], evidence: &[Evidence]) -> Vec<Proposal> {
    let mut all = Vec::new();
    for (field, agreed) in contract.fields.iter().enumerate() {
        for (column, found) in columns.iter().enumerate() {
            let nullable = contract.is_nullable(field);
            let mut proposal = judge((agreed, nullable), found, evidence.get(column));
            if proposal.sureness >= SURENESS_MIN {
                (proposal.field, proposal.column) = (field, column);
                all.push(proposal);
            }
        }
    }
    all.sort_by_key(|proposal| std::cmp::Reverse(proposal.sureness));
    let mut taken: Vec<Proposal> = Vec::new();
    for proposal in all {
        let is_taken =
            |other: &Proposal| other.field == proposal.field || other.column == proposal.column;
        if !taken.iter().any(is_taken) {
            taken.push(proposal);
        }
    }
    taken.sort_by_key(|proposal| proposal.field);
    taken
}

/// How well one column fits one field, which the caller places.
#[must_use]
pub fn judge(
    (agreed, nullable): (&ContractField, bool),
    found: &Column,
    evidence: Option<&Evidence>,
) -> Proposal {
    let conversion = bridge(&found.native, agreed.kind);
    let mut reasons = Vec::new();
    let mut sureness = likeness(&agreed.name, &found.name);
    reasons.extend(match sureness {
        100 => Some(Reason::SameName),
        SURE.. => Some(Reason::SameMeaning),
        SURENESS_MIN.. => Some(Reason::LikeName),
        _ => None,
    });
    if let Some(evidence) = evidence.filter(|evidence| evidence.values() + evidence.nulls() > 0) {
        weigh((agreed, nullable), evidence, &mut sureness, &mut reasons);
    }
    if conversion == Bridge::None {
        sureness = sureness.saturating_sub(30);
        reasons.push(Reason::OtherType);
    }
    Proposal { field: 0, column: 0, sureness, conversion, reasons }
}

/// Fewer values than this say nothing against a name.
const VALUES_MIN: u64 = 10;

/// What the values say beside the names.
fn weigh(
    (agreed, nullable): (&ContractField, bool),
    evidence: &Evidence,
    sureness: &mut Sureness,
    reasons: &mut Vec<Reason>,
) {
    let told = [Look::CitizenId, Look::Phone, Look::Email, Look::PersonName];
    let about = by_name(&agreed.name).filter(|look| told.contains(look));
    let seen = evidence.looks_like();
    let enough = evidence.values() >= VALUES_MIN;
    match (about, seen) {
        (Some(about), _) if evidence.percent(about) >= 80 => {
            let raised = if *sureness >= SURENESS_MIN { 95 } else { 75 };
            *sureness = (*sureness).max(raised);
            reasons.push(Reason::ValuesLook(about, evidence.percent(about)));
        }
        (_, Some(seen)) if enough && about != Some(seen) => {
            *sureness = (*sureness).min(60);
            reasons.push(Reason::ValuesLookElse(seen));
        }
        _ => {}
    }
    if !nullable && evidence.nulls() > 0 {
        *sureness = (*sureness).min(85);
        reasons.push(Reason::Nulls(evidence.nulls()));
    }
    let longest = u32::try_from(evidence.longest()).unwrap_or(u32::MAX);
    // A pseudonym has a length of its own, whatever it was made of.
    let masked = mask(agreed, nullable).is_some();
    if let Some(most) = agreed.max_length.filter(|most| longest > *most && !masked) {
        *sureness = (*sureness).min(70);
        reasons.push(Reason::TooLong(evidence.longest(), most));
    }
}

fn bridge(native: &Native, kind: Kind) -> Bridge {
    if Conversion::choose(native, kind).is_ok() {
        return Bridge::Exact;
    }
    let readable = matches!(
        kind,
        Kind::Bool
            | Kind::Int2
            | Kind::Int4
            | Kind::Int8
            | Kind::Numeric
            | Kind::Date
            | Kind::Timestamp
    );
    if *native == Native::Text && readable { Bridge::Convert } else { Bridge::None }
}

/// How alike two names are, of a hundred.
fn likeness(field: &str, column: &str) -> Sureness {
    let (one, other) = (run_together(field), run_together(column));
    if one == other {
        return 100;
    }
    let means = |group: &&[&str], name: &String| group.contains(&name.as_str());
    if SAME.iter().any(|group| means(group, &one) && means(group, &other)) {
        return SURE;
    }
    if initials(field) == other && other.len() >= 3 {
        return 75;
    }
    let about = |name: &str| {
        by_name(name).filter(|look| *look != Look::Sensitive && *look != Look::Personal)
    };
    let same_kind = about(field).is_some() && about(field) == about(column);
    let shared = shared_words(field, column);
    if same_kind { shared.max(60) } else { shared }
}

fn run_together(name: &str) -> String {
    folded(name).chars().filter(|letter| letter.is_alphanumeric()).collect()
}

/// `HoTen` and `ho_ten` are the words ho and ten.
fn words(name: &str) -> Vec<String> {
    let mut apart = String::new();
    let mut before = ' ';
    for letter in name.chars() {
        if letter.is_uppercase() && before.is_lowercase() {
            apart.push(' ');
        }
        apart.push(if letter.is_alphanumeric() { letter } else { ' ' });
        before = letter;
    }
    apart.split_whitespace().map(folded).collect()
}

fn initials(name: &str) -> String {
    words(name).iter().filter_map(|word| word.chars().next()).collect()
}

/// 80 when all words are shared, less as fewer are.
fn shared_words(one: &str, other: &str) -> Sureness {
    let (one, other) = (words(one), words(other));
    let shared = one.iter().filter(|word| other.contains(word)).count();
    let all = one.len().max(other.len()).max(1);
    u32::try_from(shared * 80 / all).unwrap_or(0)
}

/// The mask that a field of this class begins with (domain notes §2.3); a person may lift it.
#[must_use]
pub fn mask(field: &ContractField, nullable: bool) -> Option<&'static str> {
    let text = field.kind == Kind::Text;
    match field.class {
        Class::X if nullable => Some("\"drop\""),
        Class::N if text => Some("{ hmac = \"hmac.key\" }"),
        Class::B if text && matches!(by_name(&field.name), Some(Look::Phone | Look::Email)) => {
            Some("{ keep_last = 3 }")
        }
        Class::P | Class::I | Class::B | Class::X | Class::N | Class::StateSecret => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, native: Native) -> Column {
        Column { name: name.to_owned(), type_name: format!("{native:?}"), native, nullable: true }
    }

    #[test]
    fn columns_find_their_fields_by_what_their_names_say() {
        let check = |field: &str, column: &str, expected: Sureness| {
            assert_eq!(likeness(field, column), expected, "{field} {column}");
        };
        check("ho_ten", "HoTen", 100);
        check("ho_ten", "HỌ_TÊN", 100);
        check("so_dinh_danh", "SoCCCD", 90);
        check("ngay_sinh", "dob", 90);
        check("ngay_cap_the", "NCT", 75);
        check("dien_thoai_rieng", "MobilePhone", 60);
        check("ma_ho_so", "ma_hs", 26);
        check("ngay_tiep_nhan", "ngay_nhan", 53);
        check("ghi_chu", "ton_giao", 0);
        // Two sensitive things are not the same thing.
        check("dan_toc", "religion", 0);
    }

    #[test]
    fn every_column_is_proposed_once_and_types_are_minded() {
        let contract = include_str!("../../../configs/contracts/cong_dan.citizens.toml");
        let contract = Contract::from_toml(contract).unwrap();
        let columns = [
            column("id", Native::Int8),
            column("socccd", Native::Text),
            column("cmnd", Native::Text),
            column("ngaysinh", Native::Text),
            column("hoten", Native::Bytea),
            column("tongiao", Native::Text),
        ];
        let shown: Vec<_> = propose(&contract, &columns, &[])
            .iter()
            .map(|p| {
                (
                    contract.fields[p.field].name.as_str(),
                    columns[p.column].name.as_str(),
                    p.conversion,
                )
            })
            .collect();
        let expected = [
            ("id", "id", Bridge::Exact),
            ("so_dinh_danh", "socccd", Bridge::Exact),
            ("ho_ten", "hoten", Bridge::None),
            ("ngay_sinh", "ngaysinh", Bridge::Convert),
        ];
        assert_eq!(shown, expected);
    }
    #[test]
    fn values_speak_for_a_column_whose_name_says_nothing_and_against_one_whose_name_lies() {
        use phusa_protocol::value::Field;
        let contract = include_str!("../../../configs/contracts/cong_dan.citizens.toml");
        let contract = Contract::from_toml(contract).unwrap();
        let columns = [column("f7", Native::Text), column("dien_thoai", Native::Text)];
        let sample = |number: fn(u64) -> String| {
            let mut evidence = Evidence::default();
            for at in 0..50 {
                evidence.add(&Native::Text, Field::Value(number(at).as_bytes()));
            }
            evidence
        };
        let phones = sample(|at| format!("09051234{at:02}"));
        let names = sample(|_| "Nguyễn Văn An".to_owned());
        let found = propose(&contract, &columns, &[phones, names]);
        let of = |name: &str| {
            let field = contract.fields.iter().position(|field| field.name == name);
            found.iter().find(|proposal| Some(proposal.field) == field).unwrap()
        };
        let phone = of("dien_thoai");
        assert_eq!((phone.column, phone.sureness), (0, 75), "{found:?}");
        assert_eq!(phone.reasons, [Reason::ValuesLook(Look::Phone, 100)]);
    }
}
