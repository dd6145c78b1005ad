//! Code lists from their files, each read once, with the digest that makes a changed list a
//! changed mapping.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use toml::Spanned;

use super::place::{self, Place};
use crate::config::rules::{BecomesFile, CodeFile, ListFile};
use crate::mapping::codes::{CodeList, Period};

/// The lists that a dataset file names.
#[derive(Debug, Default)]
pub(super) struct Lists(BTreeMap<PathBuf, (Arc<CodeList>, Digest)>);

impl Lists {
    /// The list in the file at `path`.
    ///
    /// # Errors
    /// `mapping_invalid` with file, line and rule.
    pub(super) fn load(&mut self, path: &Path) -> Result<Arc<CodeList>, Fault> {
        if let Some((list, _)) = self.0.get(path) {
            return Ok(Arc::clone(list));
        }
        let text = place::read(path, Code::MappingInvalid)?;
        let file: ListFile = place::parse(path, &text, Code::MappingInvalid)?;
        let place = Place::new(path, &text);
        let list = Arc::new(list(&file, &place)?);
        self.0.insert(path.to_path_buf(), (Arc::clone(&list), Digest::of(text.as_bytes())));
        Ok(list)
    }

    /// The digests of all lists read, in the order of their paths.
    pub(super) fn digests(&self) -> Vec<Digest> {
        self.0.values().map(|(_, digest)| *digest).collect()
    }
}

fn list(file: &ListFile, place: &Place<'_>) -> Result<CodeList, Fault> {
    let whole = Period::new(file.valid_from.as_deref(), file.valid_to.as_deref());
    let whole = whole.map_err(|rule| place.fault(0..0, Code::MappingInvalid, rule))?;
    let mut list = CodeList::new(whole);
    if file.only_becomes {
        list.only_becomes();
    }
    match file.any_of_digits {
        Some(digits @ 1..=20) => list.any_of_digits(digits),
        Some(_) => {
            let rule = "`any_of_digits` is 1 to 20";
            return Err(place.fault(0..0, Code::MappingInvalid, rule));
        }
        None => {}
    }
    for code in &file.codes {
        add_code(code.get_ref(), &mut list).map_err(|rule| wrong(place, code, &rule))?;
    }
    for becomes in &file.becomes {
        add_becomes(becomes.get_ref(), &mut list).map_err(|rule| wrong(place, becomes, &rule))?;
    }
    if let Some(dangling) = list.dangling().first() {
        let rule = format!("codes become `{dangling}`, which is not a code of this list");
        return Err(place.fault(0..0, Code::MappingInvalid, rule));
    }
    Ok(list)
}

fn wrong<T>(place: &Place<'_>, at: &Spanned<T>, rule: &str) -> Fault {
    place.fault(at.span(), Code::MappingInvalid, rule)
}

fn add_code(code: &CodeFile, list: &mut CodeList) -> Result<(), String> {
    let period = Period::new(code.valid_from.as_deref(), code.valid_to.as_deref())?;
    list.add(code.code.clone(), period);
    Ok(())
}

fn add_becomes(becomes: &BecomesFile, list: &mut CodeList) -> Result<(), String> {
    let period = Period::new(becomes.valid_from.as_deref(), becomes.valid_to.as_deref())?;
    list.add_becomes(becomes.from.clone(), becomes.to.clone(), period)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::mapping::codes::{Became, day};

    fn shipped() -> Vec<(String, Arc<CodeList>, ListFile)> {
        let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/lists"));
        let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let load = |path: PathBuf| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let list = Lists::default().load(&path).unwrap();
            (name, list, toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap())
        };
        names.map(load).collect()
    }

    fn list(name: &str) -> Arc<CodeList> {
        shipped().into_iter().find(|(own, ..)| own == name).unwrap().1
    }

    #[test]
    fn the_shipped_lists_are_sound_and_say_where_they_stand() {
        let lists = shipped();
        assert!(lists.len() >= 7);
        for (name, _, file) in lists {
            assert!(!file.source.is_empty() && !file.title_vi.is_empty(), "{name}");
        }
    }

    #[test]
    fn every_province_of_sixty_three_is_one_of_thirty_four() {
        let (_, provinces, file) =
            shipped().into_iter().find(|(own, ..)| own == "province").unwrap();
        let (before, after) = (day("2025-06-30").unwrap(), day("2025-07-01").unwrap());
        let codes: BTreeSet<_> =
            file.codes.iter().map(|code| code.get_ref().code.clone()).collect();
        let in_force = |on| codes.iter().filter(|code| provinces.holds(code, on)).count();
        assert_eq!((in_force(before), in_force(after)), (63, 34));
        let now = |code: &String| match provinces.became(code, after) {
            Became::Itself => code.clone(),
            Became::Other(other) => other.to_owned(),
            Became::Unknown => panic!("{code} became nothing"),
        };
        let reached: BTreeSet<_> = codes.iter().map(now).collect();
        assert_eq!(reached.len(), 34);
        assert!(reached.iter().all(|code| provinces.holds(code, after)));
        let check =
            |code: &str, expected: &str| assert_eq!(now(&code.to_owned()), expected, "{code}");
        check("46", "46"); // Huế
        check("93", "92"); // Hậu Giang → Cần Thơ
        check("10", "15"); // Lào Cai, whose number was that of Yên Bái
        check("45", "44"); // Quảng Trị, whose number was that of Quảng Bình
        assert_eq!(provinces.became("45", before), Became::Itself);
    }

    #[test]
    fn the_two_numberings_of_sex_and_of_kinh_are_kept_apart() {
        let today = day("2026-01-01").unwrap();
        let bank = list("gender_from_bank");
        assert_eq!(bank.became("0", today), Became::Other("2"));
        assert_eq!(bank.became("2", today), Became::Other("3"));
        assert_eq!(bank.became("3", today), Became::Unknown);
        let hospital = list("ethnic_group_from_hospital");
        assert_eq!(hospital.became("25", today), Became::Other("01"));
        assert_eq!(hospital.became("06", today), Became::Unknown);
        assert!(list("ethnic_group").holds("25", today), "Giáy");
        assert!(list("district").holds("474", day("2025-06-30").unwrap()));
        assert!(!list("district").holds("474", day("2025-07-01").unwrap()));
    }
}
