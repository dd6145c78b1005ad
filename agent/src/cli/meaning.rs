//! What a configuration means, for a person who did not write it: which columns leave, which are
//! masked, which stay; and what the shared values look like.

use phusa_protocol::contract::Class;
use phusa_protocol::fault::Fault;
use phusa_protocol::value::{Field, Kind};

use super::say;
use crate::config::plan::DatasetPlan;
use crate::mapping::field::{FieldRule, Mask, Recipe};
use crate::mapping::looks::{self, Looks};
use crate::mapping::preview::render;
use crate::pipeline::sample::{self, SAMPLE_ROWS};
use crate::source::any::AnySource;

/// Says what leaves and what stays; `unread` are the table's other columns, where it was looked at.
pub(super) fn explain(dataset: &DatasetPlan, unread: Option<&Vec<String>>) {
    let (selection, fields) = (&dataset.selection, &dataset.rules.fields);
    let filled: Vec<&FieldRule> = fields.iter().filter(|f| !f.columns().is_empty()).collect();
    let (masked, open): (Vec<_>, Vec<_>) =
        filled.iter().copied().partition(|f| f.mask != Mask::Keep);
    let (from, title) =
        (format!("{}.{}", selection.schema, selection.table), &dataset.contract.title_vi);
    say(&format!("\n{} ← {from}  ({title})", dataset.dataset()));
    let (shared, hidden) = (selection.columns.len(), masked.len());
    match unread {
        Some(unread) => {
            let stay = unread.len();
            say(&format!(
                "  {shared} cột của {} được chia sẻ, {hidden} bị che, {stay} ở lại đây",
                selection.table
            ));
            say(&format!(
                "  {shared} columns of {} are shared, {hidden} masked, {stay} stay here",
                selection.table
            ));
        }
        None => say(&format!(
            "  {shared} cột được chia sẻ, {hidden} bị che · {shared} columns shared, {hidden} masked"
        )),
    }
    list("chia sẻ · shared", open.iter().map(|field| arrow(field)));
    list("bị che · masked", masked.iter().map(|f| format!("{} [{}]", arrow(f), mask(&f.mask))));
    let ruled = filled.iter().filter(|field| !field.recipe.is_empty());
    list("quy tắc · rules", ruled.map(|f| format!("{}: {}", f.name, rules(&f.recipe))));
    let dropped = fields.iter().filter(|field| field.columns().is_empty());
    list("gửi rỗng · sent as null", dropped.map(|field| field.name.clone()));
    list("ở lại · stay here", unread.into_iter().flatten().cloned());
    if let Some(filter) = &selection.filter {
        say(&format!("  lọc ở nguồn · filtered at the source: {filter}"));
    }
    sensitive(dataset).iter().for_each(|line| say(line));
    suspicious_names(dataset);
}

/// Sensitive fields that leave as they are, each with the law that lets it.
fn sensitive(dataset: &DatasetPlan) -> Vec<String> {
    let pairs = dataset.rules.fields.iter().zip(&dataset.contract.fields);
    let open = pairs.filter(|(rule, agreed)| {
        agreed.class == Class::X && rule.mask == Mask::Keep && !rule.columns().is_empty()
    });
    open.map(|(_, agreed)| {
        let (name, basis) = (&agreed.name, &agreed.legal_basis);
        format!("  ! `{name}` nhạy cảm, gửi nguyên vẹn · sensitive, sent as it is; căn cứ · basis: {basis}")
    })
    .collect()
}

fn list(title: &str, items: impl Iterator<Item = String>) {
    let items: Vec<String> = items.collect();
    if !items.is_empty() {
        say(&format!("  {title}: {}", items.join(", ")));
    }
}

fn arrow(field: &FieldRule) -> String {
    format!("{} ← {}", field.name, field.columns().join(" + "))
}

/// A mask as the file has it.
pub(super) fn mask(mask: &Mask) -> String {
    match mask {
        Mask::Keep => "nguyên vẹn · as it is".to_owned(),
        Mask::KeepLast(count) => format!("keep_last {count}"),
        Mask::KeepFirst(count) => format!("keep_first {count}"),
        Mask::Initials => "initials".to_owned(),
        Mask::Year => "year".to_owned(),
        Mask::Band(width) => format!("band {width}"),
        Mask::Commune => "commune".to_owned(),
        Mask::Hmac(_) => "hmac".to_owned(),
        Mask::Constant(_) => "constant".to_owned(),
    }
}

/// The rules of a field by their names, in their order.
pub(super) fn rules(recipe: &Recipe) -> String {
    let stages = [
        ("compute", recipe.compute.is_some()),
        ("encoding", recipe.decode.is_some()),
        ("normalise", !recipe.normalise.is_empty()),
        ("pad_left", recipe.pad_left.is_some()),
        ("convert", recipe.convert.is_some()),
        ("crosswalk", recipe.crosswalk.is_some()),
        ("check", !recipe.checks.is_empty()),
    ];
    let there = stages.into_iter().filter(|(_, is_there)| *is_there);
    there.map(|(name, _)| name).collect::<Vec<_>>().join(" → ")
}

/// Fields shared openly: of class P or I and not masked.
fn open_fields(dataset: &DatasetPlan) -> impl Iterator<Item = (usize, &FieldRule)> {
    let classed = dataset.rules.fields.iter().zip(&dataset.contract.fields).enumerate();
    classed.filter_map(|(at, (rule, agreed))| {
        let is_open = matches!(agreed.class, Class::P | Class::I);
        (is_open && rule.mask == Mask::Keep && !rule.columns().is_empty()).then_some((at, rule))
    })
}

fn suspicious_names(dataset: &DatasetPlan) {
    for (_, field) in open_fields(dataset) {
        let names = field.columns().into_iter().chain([field.name.as_str()]);
        if let Some(look) = names.filter_map(looks::by_name).next() {
            say(&format!(
                "  ! `{}`: tên cột giống · its name looks like {}; loại · class P/I",
                field.name,
                look.words()
            ));
        }
    }
}

/// Looks at a sample of what would leave: encodings that are to be settled, and values of openly
/// shared fields that look like persons. Counts are printed, never values.
pub(super) async fn look_at_values(source: &AnySource, dataset: &DatasetPlan) -> Result<(), Fault> {
    for (at, detection) in sample::detections(source, dataset).await? {
        let name = dataset.rules.fields.get(at).map(|field| field.name.as_str());
        let name = name.unwrap_or_default();
        let clear = detection.clear.map_or("chưa rõ · not clear", |encoding| encoding.name());
        let scores = sample::words(&detection);
        say(&format!(
            "  {}: bảng mã của · encoding of `{name}`: {clear} ({scores})",
            dataset.dataset()
        ));
    }
    let open: Vec<(usize, &FieldRule)> = open_fields(dataset).collect();
    if open.is_empty() {
        return Ok(());
    }
    let mut found = vec![Looks::default(); open.len()];
    sample::scan_mapped(source, dataset, Some(SAMPLE_ROWS), |mapped| {
        sample::each_row(mapped.shareable.body(), |row| {
            let fields: Vec<Field<'_>> = row.fields().collect();
            for ((at, rule), looks) in open.iter().zip(&mut found) {
                if let Some(Field::Value(bytes)) = fields.get(*at)
                    && holds_words(rule.kind)
                {
                    looks.add(&render(rule.kind, bytes));
                }
            }
            Ok(())
        })
    })
    .await?;
    for ((_, rule), looks) in open.iter().zip(&found) {
        for (look, count) in looks.found() {
            say(&format!(
                "  ! {}: `{}` loại · class P/I: {count}/{} giá trị mẫu giống · of the sampled values look like {}",
                dataset.dataset(),
                rule.name,
                looks.values,
                look.words()
            ));
        }
    }
    Ok(())
}

/// Types whose values may hold ids, names and words.
fn holds_words(kind: Kind) -> bool {
    matches!(kind, Kind::Text | Kind::TextArray | Kind::Jsonb | Kind::Int8 | Kind::Numeric)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::plan::Plan;

    #[test]
    fn sensitive_fields_are_named_with_their_legal_basis() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/agent.toml");
        let plan = Plan::load(Path::new(path)).unwrap();
        let lines = |name: &str| {
            let dataset = plan.datasets.iter().find(|d| d.dataset().to_string() == name);
            sensitive(dataset.unwrap())
        };
        let [line] = lines("cong_dan.citizens").try_into().unwrap();
        assert!(line.contains("`dan_toc`") && line.contains("Văn bản cho phép"), "{line}");
        assert!(lines("cong_dan.ho_tich_cu").is_empty(), "a dropped field is not sent");
    }
}
