//! One dataset file against its contract: agreed fields, each once, each classed alike, nothing
//! hidden that must be seen.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use phusa_protocol::batch::canonical_json;
use phusa_protocol::contract::{BadContract, Class, Contract, ContractField};
use phusa_protocol::digest::Digest;
use phusa_protocol::fault::{Code, Fault};
use phusa_protocol::ids::DatasetId;
use phusa_protocol::units::ByteSize;
use serde::Deserialize;

use super::DatasetPlan;
use super::lists::Lists;
use super::place::{self, Place};
use super::recipe::{Flaw, Reading};
use crate::config::secret::SecretFile;
use crate::config::{self, DatasetFile, FieldFile, MaskFile};
use crate::mapping::field::{FieldRule, Mask, Recipe, Rules};
use crate::mapping::filter::{Dialect, Filter};
use crate::mapping::terms::{AgreedList, Terms};
use crate::source::{Capture, Selection};

/// What `agent.toml` says of every dataset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common {
    /// The largest row that is carried.
    pub(super) row_bytes_max: ByteSize,
    /// The SQL in which the source is asked for rows.
    pub(super) dialect: Dialect,
}

/// Reads and checks the file at `path`; `seen` holds the datasets of the files before it.
pub(super) fn load(
    path: &Path,
    common: Common,
    seen: &mut BTreeMap<DatasetId, PathBuf>,
) -> Result<DatasetPlan, Vec<Fault>> {
    let one = |fault| vec![fault];
    let text = place::read(path, Code::ConfigInvalid).map_err(one)?;
    let file: DatasetFile = place::parse(path, &text, Code::ConfigInvalid).map_err(one)?;
    let place = Place::new(path, &text);
    let lists = Lists::default();
    let mut check = Check { folder: place.folder(), place, lists, faults: Vec::new() };
    check.is_the_only_one(&file, seen);
    check.shares_no_secret(&file);
    let plan = check.dataset(&file, common);
    match plan {
        Some(plan) if check.faults.is_empty() => Ok(plan),
        _ => Err(check.faults),
    }
}

/// A walk through one dataset file that gathers what is wrong.
struct Check<'a> {
    place: Place<'a>,
    folder: PathBuf,
    lists: Lists,
    faults: Vec<Fault>,
}

impl Check<'_> {
    fn wrong(&mut self, span: Range<usize>, rule: impl AsRef<str>) {
        self.faults.push(self.place.fault(span, Code::MappingInvalid, rule));
    }

    fn is_the_only_one(&mut self, file: &DatasetFile, seen: &mut BTreeMap<DatasetId, PathBuf>) {
        let path = seen.get(file.dataset.get_ref()).cloned();
        if let Some(path) = path {
            let rule = format!("dataset {} stands in {} too", file.dataset, path.display());
            self.wrong(file.dataset.span(), rule);
            return;
        }
        seen.insert(file.dataset.get_ref().clone(), self.place.path().to_path_buf());
    }

    /// A mapping that names a state secret stops the agent, whatever its contract says (CT-01).
    fn shares_no_secret(&mut self, file: &DatasetFile) {
        let secret = |field: &&FieldFile| *field.class.get_ref() == Class::StateSecret;
        for field in file.fields.iter().filter(secret) {
            let rule =
                format!("`{}` is classed state_secret and is never shared (CT-01)", field.to);
            self.faults.push(self.place.fault(field.class.span(), Code::StateSecret, rule));
        }
    }

    /// `None` leaves at least one fault behind.
    fn dataset(&mut self, file: &DatasetFile, common: Common) -> Option<DatasetPlan> {
        let table = file.table.get_ref().split_once('.');
        let table = table.filter(|(schema, table)| !schema.is_empty() && !table.is_empty());
        if table.is_none() {
            self.wrong(file.table.span(), "`table` is schema.table, such as \"public.citizens\"");
        }
        let filter = self.filter(file);
        let contract = self.contract(file)?;
        let mapped = self.mapped(file, &contract);
        let fields = contract.fields.iter().enumerate().map(|(index, field)| {
            let mapped = mapped.get(field.name.as_str()).copied();
            self.field_rule(file, &contract, (index, field), mapped)
        });
        let fields: Vec<FieldRule> = fields.collect();
        let (schema, table) = table?;
        let key = contract.key_indexes();
        let columns = columns(&fields);
        let selection = Selection {
            dataset: contract.dataset.clone(),
            schema: schema.to_owned(),
            table: table.to_owned(),
            key: self.key_columns(file, &fields, &key, &columns),
            filter: filter.as_ref().map(|filter| filter.to_sql(common.dialect)),
            columns,
            capture: wanted(file.capture),
            watermark: file.watermark_column.as_ref().map(|name| name.get_ref().clone()),
        };
        self.filter_reads_mapped_columns(file, filter.as_ref(), &selection.columns);
        self.capture_is_offered(file, common.dialect);
        let rules = Rules { fields, key, filter, row_bytes_max: common.row_bytes_max.as_usize() };
        let mapping = self.fingerprint(file);
        let file_path = self.place.path().to_path_buf();
        Some(DatasetPlan { file: file_path, contract, selection, rules, mapping })
    }

    /// Only PostgreSQL offers every way, and only MySQL and MariaDB need to be told of a column.
    fn capture_is_offered(&mut self, file: &DatasetFile, dialect: Dialect) {
        let asked = wanted(file.capture);
        if let Some(column) = file.watermark_column.as_ref().filter(|_| dialect != Dialect::MySql) {
            let rule = "`watermark_column` is for MySQL and MariaDB only: this database tells by \
                        itself what was written since the last look";
            self.wrong(column.span(), rule);
        }
        let everywhere = matches!(asked, Capture::Auto | Capture::Log | Capture::Reconcile);
        if dialect == Dialect::MySql && asked == Capture::Watermark {
            if file.watermark_column.is_none() {
                let rule = "`capture = \"watermark\"` needs `watermark_column`: the indexed column \
                            that tells when a row was last written";
                self.wrong(file.dataset.span(), rule);
            }
        } else if dialect != Dialect::PostgreSql && !everywhere {
            let rule = format!(
                "`capture = \"{}\"` is for PostgreSQL only; leave it out, and `check` says how this \
                 database is followed",
                asked.name()
            );
            self.wrong(file.dataset.span(), rule);
        }
    }

    /// A changed list changes what leaves, so it is part of the mapping; a file without lists has
    /// the fingerprint of its own text.
    fn fingerprint(&self, file: &DatasetFile) -> Digest {
        let lists = self.lists.digests();
        let bytes =
            if lists.is_empty() { canonical_json(file) } else { canonical_json(&(file, lists)) };
        Digest::of(&bytes)
    }

    fn filter(&mut self, file: &DatasetFile) -> Option<Filter> {
        let written = file.filter.as_ref()?;
        match Filter::parse(written.get_ref()) {
            Ok(filter) => Some(filter),
            Err(bad) => {
                self.wrong(written.span(), format!("`where`, {bad}"));
                None
            }
        }
    }

    fn filter_reads_mapped_columns(
        &mut self,
        file: &DatasetFile,
        filter: Option<&Filter>,
        columns: &[String],
    ) {
        let (Some(filter), Some(written)) = (filter, &file.filter) else { return };
        for name in filter.columns() {
            if !columns.iter().any(|column| column == name) {
                let rule = format!(
                    "`where` reads column `{name}`, which stands under no `from` that is shared"
                );
                self.wrong(written.span(), rule);
            }
        }
    }

    fn contract(&mut self, file: &DatasetFile) -> Option<Contract> {
        let path = self.folder.join(file.contract.get_ref());
        let text = match place::read(&path, Code::ContractInvalid) {
            Ok(text) => text,
            Err(fault) => {
                let what = self.place.say(file.contract.span(), "the contract");
                self.faults.push(Fault::because(fault.code, what, fault));
                return None;
            }
        };
        let contract = match Contract::from_toml(&text) {
            Ok(contract) => contract,
            Err(bad) => {
                self.faults.push(contract_fault(&path, &text, bad));
                return None;
            }
        };
        if contract.dataset != *file.dataset.get_ref() {
            let rule = format!("the contract is of dataset {}", contract.dataset);
            self.wrong(file.dataset.span(), rule);
        }
        Some(contract)
    }

    /// The `[[field]]`s by the contract field they fill.
    fn mapped<'f>(
        &mut self,
        file: &'f DatasetFile,
        contract: &Contract,
    ) -> BTreeMap<&'f str, &'f FieldFile> {
        let mut mapped = BTreeMap::new();
        for field in &file.fields {
            let to = field.to.get_ref().as_str();
            let Some(agreed) = contract.fields.iter().find(|agreed| agreed.name == to) else {
                self.wrong(field.to.span(), format!("`{to}` is not a field of the contract"));
                continue;
            };
            self.class_is_agreed(field, agreed);
            if mapped.insert(to, field).is_some() {
                self.wrong(field.to.span(), format!("`{to}` is mapped twice"));
            }
        }
        for (index, agreed) in contract.fields.iter().enumerate() {
            if !contract.is_nullable(index) && !mapped.contains_key(agreed.name.as_str()) {
                let rule = format!("the contract requires field `{}`; map it", agreed.name);
                self.wrong(file.contract.span(), rule);
            }
        }
        mapped
    }

    fn class_is_agreed(&mut self, field: &FieldFile, agreed: &ContractField) {
        let class = *field.class.get_ref();
        if class != agreed.class && class != Class::StateSecret {
            let rule = format!(
                "`{}` is of class {:?} in the contract, not {class:?}",
                agreed.name, agreed.class
            );
            self.wrong(field.class.span(), rule);
        }
    }

    fn field_rule(
        &mut self,
        file: &DatasetFile,
        contract: &Contract,
        (index, agreed): (usize, &ContractField),
        mapped: Option<&FieldFile>,
    ) -> FieldRule {
        let nullable = contract.is_nullable(index);
        let mut rule = FieldRule {
            name: agreed.name.clone(),
            kind: agreed.kind,
            nullable,
            from: None,
            recipe: Recipe::default(),
            mask: Mask::Keep,
            terms: Terms {
                max_length: agreed.max_length.and_then(|most| usize::try_from(most).ok()),
                codes: agreed.code_list.as_deref().map(AgreedList::new),
            },
        };
        let Some(field) = mapped else { return rule };
        if field.from.is_some() == field.compute.is_some() {
            self.wrong(field.to.span(), "a field has a `from` or a `compute`, and not both");
        }
        let name = &agreed.name;
        if let Some(written) = field.mask.as_ref().filter(|mask| is_drop(mask.get_ref())) {
            if !nullable {
                let rule = format!("`{name}` may not be null and cannot be dropped");
                self.wrong(written.span(), rule);
            }
            return rule;
        }
        rule.from = field.from.as_ref().map(|from| from.get_ref().clone());
        rule.recipe = self.recipe(file, contract, field, agreed);
        let Some(written) = &field.mask else { return rule };
        rule.mask = self.mask(written.get_ref());
        if rule.mask == Mask::Band(0) {
            self.wrong(written.span(), "`band` is at least 1");
        }
        if let Some(misfit) = rule.mask.misfit(agreed.kind) {
            self.wrong(written.span(), format!("{misfit}, and `{name}` is {}", agreed.kind));
        } else if contract.key.contains(name) && !rule.mask.keeps_apart() {
            let rule = format!("`{name}` is a key field: it may be masked by `hmac` only");
            self.wrong(written.span(), rule);
        }
        rule
    }

    fn recipe(
        &mut self,
        file: &DatasetFile,
        contract: &Contract,
        field: &FieldFile,
        agreed: &ContractField,
    ) -> Recipe {
        let is_filled =
            |field: &&FieldFile| field.mask.as_ref().is_none_or(|mask| !is_drop(mask.get_ref()));
        let filled = file.fields.iter().filter(is_filled);
        let shared: Vec<&str> = filled.map(|field| field.to.get_ref().as_str()).collect();
        let Self { folder, lists, .. } = self;
        let mut reading = Reading { folder, contract, shared: &shared, lists };
        let flaws = match reading.recipe(field, agreed) {
            Ok(recipe) => return recipe,
            Err(flaws) => flaws,
        };
        for flaw in flaws {
            match flaw {
                Flaw::Here(span, rule) => self.wrong(span, rule),
                Flaw::There(fault) => self.faults.push(fault),
            }
        }
        Recipe::default()
    }

    fn mask(&self, written: &MaskFile) -> Mask {
        match written {
            // A dropped field is not read, so nothing is left to be masked.
            MaskFile::Drop => Mask::Keep,
            MaskFile::Year => Mask::Year,
            MaskFile::KeepLast(count) => Mask::KeepLast(*count),
            MaskFile::KeepFirst(count) => Mask::KeepFirst(*count),
            MaskFile::Initials => Mask::Initials,
            MaskFile::Band(width) => Mask::Band(*width),
            MaskFile::Commune => Mask::Commune,
            MaskFile::Hmac(file) => Mask::Hmac(SecretFile::new(&self.folder, file)),
            MaskFile::Constant(text) => Mask::Constant(text.clone()),
        }
    }

    /// A delete carries nothing but the source's key columns, so each key field needs one of its
    /// own.
    fn key_columns(
        &mut self,
        file: &DatasetFile,
        fields: &[FieldRule],
        key: &[usize],
        columns: &[String],
    ) -> Vec<usize> {
        let mut found = Vec::new();
        for field in key.iter().filter_map(|&index| fields.get(index)) {
            let position = columns.iter().position(|column| Some(column) == field.from.as_ref());
            let Some(position) = position else { continue };
            if found.contains(&position) {
                let rule = format!("key field `{}` shares its column with another", field.name);
                self.wrong(file.contract.span(), rule);
            }
            found.push(position);
        }
        found
    }
}

fn wanted(written: config::Capture) -> Capture {
    match written {
        config::Capture::Auto => Capture::Auto,
        config::Capture::Log => Capture::Log,
        config::Capture::Functions => Capture::Functions,
        config::Capture::Watermark => Capture::Watermark,
        config::Capture::Reconcile => Capture::Reconcile,
    }
}

fn is_drop(mask: &MaskFile) -> bool {
    *mask == MaskFile::Drop
}

/// The columns that some field is made of, each once, in contract order.
fn columns(fields: &[FieldRule]) -> Vec<String> {
    let mut columns: Vec<String> = Vec::new();
    for column in fields.iter().flat_map(FieldRule::columns) {
        if !columns.iter().any(|known| known == column) {
            columns.push(column.to_owned());
        }
    }
    columns
}

/// The classes of a contract, read apart from its other rules.
#[derive(Deserialize)]
struct Classes {
    #[serde(default)]
    field: Vec<ClassOf>,
}

#[derive(Deserialize)]
struct ClassOf {
    class: Class,
}

/// What is wrong with a contract; a state secret in it comes before everything else.
fn contract_fault(path: &Path, text: &str, bad: BadContract) -> Fault {
    let classes = toml::from_str::<Classes>(text).map_or(Vec::new(), |classes| classes.field);
    let secret = classes.iter().any(|field| field.class == Class::StateSecret);
    let code = if secret { Code::StateSecret } else { Code::ContractInvalid };
    Fault::because(code, path.display().to_string(), bad)
}
