//! Which tables are shared, and under which contract each.

use std::path::{Path, PathBuf};

use phusa_protocol::contract::Contract;
use phusa_protocol::fault::Fault;

use super::super::propose::read;
use super::screen::{Asked, Instead, NoAnswer, Question, Screen};
use super::words::{Lang, fit};
use crate::mapping::propose::propose;
use crate::source::{Column, Listed};

/// Tables on one page; with question and head it fits a terminal of 24 lines.
const PAGE: usize = 15;

/// Contract files looked at in one folder.
const CONTRACTS_MAX: usize = 500;

/// Asks which tables are shared: places in `listed`.
pub(super) fn choose(screen: &mut Screen, listed: &[Listed]) -> Asked<Vec<usize>> {
    let lang = screen.lang();
    let all: Vec<usize> = (0..listed.len()).collect();
    screen.say(
        &format!("{} bảng; số dòng là ước lượng của máy chủ:", listed.len()),
        &format!("{} tables; rows as the server estimates them:", listed.len()),
    );
    screen.line(&page(lang, listed, &all, 0));
    screen.say(
        "Số hoặc tên, cách nhau bằng dấu cách; /chữ để lọc; + xem trang sau; < quay lại.",
        "Numbers or names between blanks; /text filters; + next page; < goes back.",
    );
    let question = Question::new("tables", "Bảng được chia sẻ", "Tables to share");
    let (mut shown, mut from) = (all.clone(), 0);
    screen.ask(&question, |text| {
        if text == "+" {
            from = if from + PAGE < shown.len() { from + PAGE } else { 0 };
            return Err(Instead::Shown(page(lang, listed, &shown, from) + "\n"));
        }
        if let Some(part) = text.strip_prefix('/') {
            let part = part.to_lowercase();
            let has = |at: &usize| {
                listed.get(*at).is_some_and(|table| name(table).to_lowercase().contains(&part))
            };
            (shown, from) = (all.iter().copied().filter(has).collect(), 0);
            return Err(Instead::Shown(page(lang, listed, &shown, from) + "\n"));
        }
        chosen(listed, text).map_err(Instead::from)
    })
}

/// `schema.table`.
pub(super) fn name(table: &Listed) -> String {
    format!("{}.{}", table.schema, table.table)
}

fn page(lang: Lang, listed: &[Listed], shown: &[usize], from: usize) -> String {
    let line = |at: &usize| {
        let table = listed.get(*at)?;
        let mark = if table.readable { "" } else { " ✗" };
        let rows = format!("~{}", thousands(table.rows_estimated));
        Some(format!("{:>4} {} {rows:>14}{mark}", at + 1, fit(&name(table), 40)))
    };
    let mut lines: Vec<String> = shown.iter().skip(from).take(PAGE).filter_map(line).collect();
    let rest = shown.len().saturating_sub(from + PAGE);
    if rest > 0 {
        lines.push(lang.short(&format!("     + còn {rest} bảng"), &format!("{rest} more")));
    }
    let is_closed = |at: &usize| listed.get(*at).is_some_and(|table| !table.readable);
    if shown.iter().skip(from).take(PAGE).any(is_closed) {
        lines.push(lang.short("     ✗ tài khoản chưa được đọc", "the login may not read it yet"));
    }
    lines.join("\n")
}

/// `1.234.567`, as Vietnamese writes it.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('.');
        }
        out.push(digit);
    }
    out
}

fn chosen(listed: &[Listed], text: &str) -> Result<Vec<usize>, NoAnswer> {
    let mut places = Vec::new();
    for part in text.split([' ', ',']).filter(|part| !part.is_empty()) {
        let by_number = part.parse::<usize>().ok().filter(|at| (1..=listed.len()).contains(at));
        let by_name = || listed.iter().position(|table| name(table) == part || table.table == part);
        let place = by_number.map(|at| at - 1).or_else(by_name).ok_or_else(|| {
            (format!("không có bảng {part}"), format!("there is no table {part}"))
        })?;
        if !places.contains(&place) {
            places.push(place);
        }
    }
    if places.is_empty() {
        return Err(("chọn ít nhất một bảng".to_owned(), "choose at least one table".to_owned()));
    }
    Ok(places)
}

/// A contract and the file it stands in.
#[derive(Debug, Clone)]
pub(super) struct Agreed {
    pub(super) file: PathBuf,
    pub(super) contract: Contract,
}

/// Asks where the contracts are.
pub(super) fn contracts(screen: &mut Screen, folder: &Path, keys: &Path) -> Asked<Vec<Agreed>> {
    screen.say(
        "Hợp đồng dữ liệu (*.toml) nói trường nào được chia sẻ; tỉnh giao cùng khóa, mẫu ở \
         configs/contracts.",
        "Data contracts (*.toml) say which fields are shared; the province gives them with the \
         keys, samples are in configs/contracts.",
    );
    let usual = [folder.join("contracts"), keys.join("contracts")];
    let found = usual.into_iter().find(|place| files(place).is_ok_and(|files| !files.is_empty()));
    let question = Question::new("contracts", "Thư mục hợp đồng", "Folder of contracts");
    let question = match found {
        Some(found) => question.or(found.display().to_string()),
        None => question,
    };
    screen.ask(&question, |text| {
        let place = folder.join(text);
        let files = files(&place).map_err(|error| {
            let place = place.display();
            (format!("không đọc được {place}: {error}"), format!("cannot read {place}: {error}"))
        })?;
        let (sound, wrong): (Vec<_>, Vec<_>) =
            files.into_iter().map(agreed).partition(Result::is_ok);
        let sound: Vec<Agreed> = sound.into_iter().filter_map(Result::ok).collect();
        if sound.is_empty() {
            let why = wrong.into_iter().filter_map(Result::err).next();
            let why = why.map_or_else(String::new, |fault| format!(": {}", fault.chain()));
            let place = place.display();
            return Err((
                format!("không có hợp đồng nào trong {place}{why}"),
                format!("there is no contract in {place}{why}"),
            ));
        }
        Ok(sound)
    })
}

fn agreed(file: PathBuf) -> Result<Agreed, Fault> {
    let contract = read(&file)?;
    Ok(Agreed { file, contract })
}

fn files(place: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(place)?.take(CONTRACTS_MAX) {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Asks under which contract a table is shared; those that fit best stand first.
pub(super) fn contract<'a>(
    screen: &mut Screen,
    agreed: &'a [Agreed],
    (table, columns): (&str, &[Column]),
    taken: &[&Contract],
) -> Asked<&'a Agreed> {
    let lang = screen.lang();
    let fields = |agreed: &Agreed| propose(&agreed.contract, columns, &[]).len();
    let mut ranked: Vec<(&Agreed, usize)> =
        agreed.iter().map(|agreed| (agreed, fields(agreed))).collect();
    let share = |(agreed, fields): &(&Agreed, usize)| fields * 1_000 / agreed.contract.fields.len();
    ranked.sort_by_key(|one| std::cmp::Reverse(share(one)));
    screen.say(
        &format!("Bảng {table} ({} cột) chia sẻ theo hợp đồng nào?", columns.len()),
        &format!("Under which contract is {table} ({} columns) shared?", columns.len()),
    );
    for (number, (agreed, fields)) in ranked.iter().take(PAGE).enumerate() {
        let contract = &agreed.contract;
        let title = lang.short(&contract.title_vi, &contract.title_en);
        screen.line(&format!(
            "{:>4} {} {fields:>2}/{:<3} {}",
            number + 1,
            fit(&contract.dataset.to_string(), 28),
            contract.fields.len(),
            fit(&title, 36).trim_end()
        ));
    }
    screen.say("(số trường nhận ra theo tên)", "(fields recognised by name)");
    let question = Question::new(format!("contract.{table}"), "Hợp đồng", "Contract");
    let best = ranked.first().map(|(agreed, _)| agreed.contract.dataset.to_string());
    let question = question.or(best.unwrap_or_default());
    screen.ask(&question, |text| {
        let by_number =
            text.parse::<usize>().ok().and_then(|number| ranked.get(number.checked_sub(1)?));
        let by_name =
            || ranked.iter().find(|(agreed, _)| agreed.contract.dataset.to_string() == text);
        let (found, _) = by_number.or_else(by_name).ok_or_else(|| {
            (format!("không có hợp đồng {text}"), format!("there is no contract {text}"))
        })?;
        if taken.iter().any(|other| other.dataset == found.contract.dataset) {
            return Err((
                "hợp đồng này đã dùng cho bảng khác".to_owned(),
                "this contract is taken by another table".to_owned(),
            ));
        }
        Ok(*found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_chosen_by_number_or_by_name() {
        let table = |name: &str| Listed {
            schema: "public".to_owned(),
            table: name.to_owned(),
            rows_estimated: 1_234_567,
            readable: true,
        };
        let listed = [table("citizens"), table("dossiers"), table("2024")];
        assert_eq!(chosen(&listed, "2 public.citizens 2"), Ok(vec![1, 0]));
        assert_eq!(chosen(&listed, "2024"), Ok(vec![2]));
        assert!(chosen(&listed, "9").unwrap_err().1.contains("no table 9"));
        assert!(chosen(&listed, " ").is_err());
        let page = page(Lang::Vi, &listed, &[0, 1, 2], 0);
        assert!(page.contains("   1 public.citizens"), "{page}");
        assert!(page.contains("1.234.567"), "{page}");
    }
}
