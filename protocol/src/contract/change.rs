//! What changes from one version of a contract to the next, and whether it breaks whoever reads
//! the data by the old one (NA-01). Pure; agency and hub show the same lines and decide alike.

use serde::Serialize;

use super::{Contract, ContractField};

/// One difference between two versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The field it is about; `None` for what stands over all fields.
    pub field: Option<String>,
    /// Whether it breaks consumers, or rows sent under the old version.
    pub breaks: bool,
    /// What changes, in Vietnamese.
    pub vi: String,
    /// What changes, in English.
    pub en: String,
}

/// How a version follows another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// It is the same.
    Same,
    /// It breaks nobody.
    Compatible,
    /// It breaks consumers and has its own major version.
    Breaking,
}

/// Whether `new` may follow `old`, by what changes and by its number.
///
/// # Errors
/// In words: the number it needs.
pub fn follows(old: &Contract, new: &Contract) -> Result<Step, String> {
    if old.dataset != new.dataset {
        return Err(format!("it is of another dataset, {}", new.dataset));
    }
    if old.fingerprint() == new.fingerprint() {
        return Ok(Step::Same);
    }
    let (was, is) = (old.number(), new.number());
    let breaking = changes(old, new).into_iter().find(|change| change.breaks);
    match breaking {
        Some(change) if is.major == was.major => Err(format!(
            "{}; a change that breaks consumers needs a new major version, {} (NA-01)",
            change.en,
            was.major.saturating_add(1)
        )),
        _ if is <= was => Err(format!(
            "version {was} is in force and differs; the next one is version = {}, minor = {} or later",
            was.major,
            was.minor.saturating_add(1)
        )),
        Some(_) => Ok(Step::Breaking),
        None => Ok(Step::Compatible),
    }
}

/// Every difference from `old` to `new`: over all fields first, then field by field.
#[must_use]
pub fn changes(old: &Contract, new: &Contract) -> Vec<Change> {
    let mut found = heads(old, new);
    for was in &old.fields {
        match new.fields.iter().find(|is| is.name == was.name) {
            Some(is) => {
                let nullable = (may_be_null(old, was), may_be_null(new, is));
                found.extend(of_field(was, is, nullable));
            }
            None => found.push(of(&was.name, true, "bị bỏ", "goes away")),
        }
    }
    for is in &new.fields {
        if old.fields.iter().any(|was| was.name == is.name) {
            continue;
        }
        let (vi, en) = (format!("mới, kiểu {}", is.kind), format!("is new, of type {}", is.kind));
        if may_be_null(new, is) {
            found.push(of(&is.name, false, &vi, &en));
        } else {
            let (vi, en) = (format!("{vi}, bắt buộc"), format!("{en}, and is required"));
            found.push(of(&is.name, true, &vi, &en));
        }
    }
    found
}

fn may_be_null(contract: &Contract, field: &ContractField) -> bool {
    !field.required && !contract.key.contains(&field.name)
}

/// What stands over all fields.
fn heads(old: &Contract, new: &Contract) -> Vec<Change> {
    let mut found = Vec::new();
    let mut compare = |vi: &str, en: &str, breaks: bool, (was, is): (String, String)| {
        if was != is {
            let (vi, en) = (format!("{vi}: {was} → {is}"), format!("{en}: {was} → {is}"));
            found.push(Change { field: None, breaks, vi, en });
        }
    };
    let host = |of: &Contract| of.host.as_ref().unwrap_or(&of.owner).to_string();
    compare("chủ quản", "owner", true, (old.owner.to_string(), new.owner.to_string()));
    compare("khóa", "key", true, (old.key.join(", "), new.key.join(", ")));
    compare("nơi đặt", "host", false, (host(old), host(new)));
    compare("tên", "title", false, (old.title_vi.clone(), new.title_vi.clone()));
    compare("tên tiếng Anh", "English title", false, (old.title_en.clone(), new.title_en.clone()));
    let purposes = (old.purposes.join(", "), new.purposes.join(", "));
    compare("mục đích", "purposes", false, purposes);
    let basis = (old.legal_basis.clone(), new.legal_basis.clone());
    compare("căn cứ", "legal basis", false, basis);
    let sharing = (format!("{:?}", old.sharing), format!("{:?}", new.sharing));
    compare("hình thức chia sẻ", "sharing", false, sharing);
    let frequency = (old.frequency.to_string(), new.frequency.to_string());
    compare("tần suất", "frequency", false, frequency);
    let retention = (old.retention.to_string(), new.retention.to_string());
    compare("lưu giữ", "retention", new.retention < old.retention, retention);
    let common = |of: &Contract, other: &Contract| {
        let has = |name: &&str| other.fields.iter().any(|field| field.name == **name);
        let names: Vec<_> = of.fields.iter().map(|f| f.name.as_str()).filter(has).collect();
        names.join(", ")
    };
    compare("thứ tự trường", "order of fields", false, (common(old, new), common(new, old)));
    found
}

fn of_field(was: &ContractField, is: &ContractField, nullable: (bool, bool)) -> Vec<Change> {
    let (name, mut found) = (&was.name, Vec::new());
    if was.kind != is.kind {
        let (vi, en) = (
            format!("kiểu {} → {}", was.kind, is.kind),
            format!("changes from {} to {}", was.kind, is.kind),
        );
        found.push(of(name, !was.kind.widens_to(is.kind), &vi, &en));
    }
    match nullable {
        (true, false) => found.push(of(name, true, "trở thành bắt buộc", "now is required")),
        (false, true) => found.push(of(name, true, "có thể trống", "now may be null")),
        (true, true) | (false, false) => {}
    }
    if was.class != is.class {
        let words = format!("{:?} → {:?}", was.class, is.class);
        found.push(of(name, false, &format!("loại {words}"), &format!("class {words}")));
    }
    if was.max_length != is.max_length {
        let shown = |length: Option<u32>| length.map_or("∞".to_owned(), |most| most.to_string());
        let (from, to) = (shown(was.max_length), shown(is.max_length));
        let shorter = is.max_length.unwrap_or(u32::MAX) < was.max_length.unwrap_or(u32::MAX);
        let en = if shorter { "becomes shorter" } else { "becomes longer" };
        let vi = format!("số ký tự {from} → {to}");
        found.push(of(name, shorter, &vi, &format!("{en}, {from} → {to} characters")));
    }
    if was.code_list != is.code_list {
        let shown = |list: &Option<String>| list.clone().unwrap_or_else(|| "–".to_owned());
        let words = format!("{} → {}", shown(&was.code_list), shown(&is.code_list));
        let en = format!("takes its codes from another list, {words}");
        found.push(of(name, true, &format!("danh mục {words}"), &en));
    }
    let texts = |field: &ContractField| {
        let national = field.national_name.clone().unwrap_or_default();
        [field.name_vi.clone(), field.name_en.clone(), field.legal_basis.clone(), national]
    };
    if texts(was) != texts(is) {
        found.push(of(name, false, "tên hoặc căn cứ đổi", "another name or legal basis"));
    }
    found
}

/// The English words of a field say its name, so that they stand alone in a fault.
fn of(field: &str, breaks: bool, vi: &str, en: &str) -> Change {
    let (vi, en) = (format!("{field}: {vi}"), format!("{field} {en}"));
    Change { field: Some(field.to_owned()), breaks, vi, en }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::tests::SAMPLE;

    fn with(from: &str, to: &str) -> Contract {
        Contract::from_toml(&SAMPLE.replacen(from, to, 1)).unwrap()
    }

    const FIELD: &str =
        "[[field]]\nname = \"moi\"\ntype = \"text\"\nclass = \"I\"\nname_vi = \"M\"\n";

    #[test]
    fn what_breaks_consumers_is_told_from_what_does_not() {
        let old = Contract::from_toml(SAMPLE).unwrap();
        let religion = "name_vi = \"Tôn giáo\"";
        let long = format!("{religion}\nmax_length = 9");
        for (from, to, breaks, words) in [
            ("owner = \"H57.12\"", "owner = \"H57.13\"", true, "owner: H57.12 → H57.13"),
            ("key = [\"id\"]", "key = [\"id\", \"ton_giao\"]", true, "key: id → id, ton_giao"),
            ("15m", "20m", false, "frequency: 15m → 20m"),
            ("3650d", "30d", true, "retention: 3650d → 30d"),
            ("3650d", "4000d", false, "retention: 3650d → 4000d"),
            ("\"int8\"", "\"numeric\"", false, "id changes from int8 to numeric"),
            ("\"int8\"", "\"int4\"", true, "id changes from int8 to int4"),
            ("class = \"X\"", "class = \"B\"", false, "ton_giao class X → B"),
            (religion, long.as_str(), true, "ton_giao becomes shorter, ∞ → 9 characters"),
            ("\"ton_giao\"", "\"dao\"", true, "ton_giao goes away"),
            (religion, "name_vi = \"Đạo\"", false, "ton_giao another name or legal basis"),
        ] {
            let found = changes(&old, &with(from, to));
            let change = found.iter().find(|change| change.en == words);
            assert_eq!(change.map(|change| change.breaks), Some(breaks), "{words}: {found:?}");
        }
        let wider = Contract::from_toml(&format!("{SAMPLE}{FIELD}")).unwrap();
        assert_eq!(
            changes(&old, &wider),
            [of("moi", false, "mới, kiểu text", "is new, of type text")]
        );
        assert!(changes(&old, &old).is_empty());
    }

    #[test]
    fn a_version_is_numbered_by_what_it_changes() {
        let old = Contract::from_toml(SAMPLE).unwrap();
        let check = |text: String, expected: Result<Step, &str>| {
            let new = Contract::from_toml(&text).unwrap();
            match (follows(&old, &new), expected) {
                (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
                (found, expected) => assert_eq!(found.as_ref().ok(), expected.as_ref().ok()),
            }
        };
        let minor = SAMPLE.replace("version = 1", "version = 1\nminor = 1");
        let major = SAMPLE.replace("version = 1", "version = 2");
        check(SAMPLE.to_owned(), Ok(Step::Same));
        check(format!("{SAMPLE}{FIELD}"), Err("version = 1, minor = 1 or later"));
        check(format!("{minor}{FIELD}"), Ok(Step::Compatible));
        check(format!("{major}{FIELD}"), Ok(Step::Compatible));
        check(minor.replace("int8", "int4"), Err("needs a new major version, 2 (NA-01)"));
        check(major.replace("int8", "int4"), Ok(Step::Breaking));
        check(SAMPLE.replace("cong_dan.citizens", "cong_dan.khac"), Err("another dataset"));
    }
}
