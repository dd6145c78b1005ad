//! JSON Schemas of dataset and list files for editors, made of the structs that read them and their
//! doc comments, so that they cannot say otherwise. `UPDATE=1` rewrites `docs/schema`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::files::{below, root, text};

/// A struct or enum as its source has it: name, doc, attributes of each member.
#[derive(Debug)]
struct Item {
    is_struct: bool,
    snake: bool,
    doc: String,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    name: String,
    /// The type of a field or of what a variant holds; empty for a bare variant.
    of: String,
    doc: String,
    attributes: String,
}

/// Every `pub struct` and `pub enum` of a file.
fn items(source: &str) -> BTreeMap<String, Item> {
    let mut found = BTreeMap::new();
    let (mut doc, mut attributes, mut current) = (String::new(), String::new(), None);
    for line in source.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("///") {
            doc = format!("{doc}{words}").trim().to_owned();
        } else if line.starts_with("#[") || (!attributes.is_empty() && line.starts_with(')')) {
            attributes += line;
        } else if let Some((kind, name)) = head(line) {
            let snake = attributes.contains("snake_case") || attributes.contains("lowercase");
            let doc = std::mem::take(&mut doc);
            let item = Item { is_struct: kind == "struct", snake, doc, members: Vec::new() };
            (current, attributes) = (Some((name, item)), String::new());
        } else if line == "}" {
            found.extend(current.take());
            (doc, attributes) = (String::new(), String::new());
        } else if let Some((_, item)) = &mut current
            && let Some((name, of)) = member(line, item.is_struct)
        {
            let (doc, attributes) = (std::mem::take(&mut doc), std::mem::take(&mut attributes));
            item.members.push(Member { name, of, doc, attributes });
        }
    }
    found
}

fn head(line: &str) -> Option<(&str, String)> {
    let (kind, rest) = line.strip_prefix("pub ")?.split_once(' ')?;
    let name = rest.strip_suffix(" {")?.to_owned();
    matches!(kind, "struct" | "enum").then_some((kind, name))
}

/// `pub name: Type,` or `Variant,` or `Variant(Type),`.
fn member(line: &str, of_struct: bool) -> Option<(String, String)> {
    let line = line.strip_suffix(',')?;
    if of_struct {
        let (name, of) = line.strip_prefix("pub ")?.split_once(": ")?;
        return Some((name.to_owned(), of.to_owned()));
    }
    let (name, of) = line.split_once('(').unwrap_or((line, ""));
    let sound = name.chars().all(char::is_alphanumeric);
    sound.then(|| (name.to_owned(), of.trim_end_matches(')').to_owned()))
}

/// What stands in `prefix<…>`.
fn inside<'t>(of: &'t str, prefix: &str) -> Option<&'t str> {
    of.strip_prefix(prefix)?.strip_prefix('<')?.strip_suffix('>')
}

fn schema_of(of: &str) -> Value {
    if let Some(of) = inside(of, "Spanned").or_else(|| inside(of, "Option")) {
        return schema_of(of);
    }
    if let Some(of) = inside(of, "Vec") {
        return json!({ "type": "array", "items": schema_of(of) });
    }
    match of {
        "String" | "DatasetId" => json!({ "type": "string" }),
        "usize" | "u32" => json!({ "type": "integer", "minimum": 0 }),
        "bool" => json!({ "type": "boolean" }),
        "BTreeMap<String, String>" => {
            json!({ "type": "object", "additionalProperties": { "type": "string" } })
        }
        "Class" => json!({ "enum": ["P", "I", "B", "X", "N"] }),
        other => json!({ "$ref": format!("#/$defs/{other}") }),
    }
}

fn with_doc(mut schema: Value, doc: &str) -> Value {
    if let Some(map) = schema.as_object_mut() {
        map.insert("description".to_owned(), json!(doc));
    }
    schema
}

/// The name in the file: that of `rename`, else that of the code in its case.
fn written(member: &Member, snake: bool) -> String {
    if let Some((_, rest)) = member.attributes.split_once("rename = \"") {
        return rest.split('"').next().unwrap_or_default().to_owned();
    }
    if !snake {
        return member.name.clone();
    }
    let mut name = String::new();
    for letter in member.name.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

fn definition(item: &Item) -> Value {
    if !item.is_struct {
        let choice = |member: &Member| {
            let name = written(member, item.snake);
            let schema = if member.of.is_empty() {
                json!({ "const": name })
            } else {
                json!({
                    "type": "object", "properties": { &name: schema_of(&member.of) },
                    "required": [name], "additionalProperties": false
                })
            };
            with_doc(schema, &member.doc)
        };
        let choices: Vec<Value> = item.members.iter().map(choice).collect();
        return with_doc(json!({ "oneOf": choices }), &item.doc);
    }
    let (mut properties, mut required) = (Map::new(), Vec::new());
    for member in &item.members {
        let name = written(member, false);
        properties.insert(name.clone(), with_doc(schema_of(&member.of), &member.doc));
        if !member.attributes.contains("default") {
            required.push(name);
        }
    }
    let schema = json!({
        "type": "object", "properties": properties, "required": required,
        "additionalProperties": false
    });
    with_doc(schema, &item.doc)
}

/// The schema of the files that `top` reads, with every type it names.
fn schema(top: &str, title: &str) -> Value {
    let sources = text("agent/src/config.rs") + &text("agent/src/config/rules.rs");
    let items = items(&sources);
    let (mut definitions, mut ahead) = (Map::new(), vec![top.to_owned()]);
    while let Some(name) = ahead.pop() {
        let Some(item) = items.get(&name) else { panic!("no `pub struct` or `pub enum` {name}") };
        let schema = definition(item);
        let shown = schema.to_string();
        let named = shown.split("#/$defs/").skip(1).filter_map(|rest| rest.split('"').next());
        definitions.insert(name, schema.clone());
        ahead.extend(named.filter(|name| !definitions.contains_key(*name)).map(str::to_owned));
    }
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "title": title,
        "$ref": format!("#/$defs/{top}"), "$defs": definitions
    })
}

const SCHEMAS: [(&str, &str, &str, &str); 2] = [
    (
        "DatasetFile",
        "datasets/*.toml of phusa-agent",
        "docs/schema/dataset.json",
        "configs/datasets",
    ),
    ("ListFile", "lists/*.toml of phusa-agent", "docs/schema/list.json", "configs/lists"),
];

#[test]
fn schemas_say_what_the_code_reads() {
    for (top, title, path, _) in SCHEMAS {
        let expected = serde_json::to_string_pretty(&schema(top, title)).unwrap() + "\n";
        if std::env::var_os("UPDATE").is_some() {
            std::fs::create_dir_all(root().join("docs/schema")).unwrap();
            std::fs::write(root().join(path), &expected).unwrap();
        }
        assert_eq!(text(path), expected, "{path}: run with UPDATE=1 and review");
    }
}

/// Whether `value` is as `schema` says; only what the schemas above use.
fn fits(schema: &Value, value: &Value, all: &Value) -> bool {
    if let Some(name) = schema["$ref"].as_str() {
        return fits(&all["$defs"][name.trim_start_matches("#/$defs/")], value, all);
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        return choices.iter().filter(|choice| fits(choice, value, all)).count() == 1;
    }
    if let Some(one) = schema.get("const") {
        return one == value;
    }
    if let Some(some) = schema["enum"].as_array() {
        return some.contains(value);
    }
    match schema["type"].as_str() {
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64(),
        Some("array") => value
            .as_array()
            .is_some_and(|all_of| all_of.iter().all(|v| fits(&schema["items"], v, all))),
        _ => value.as_object().is_some_and(|object| {
            let required = schema["required"].as_array().into_iter().flatten();
            let sound = |(key, value): (&String, &Value)| match schema["properties"].get(key) {
                Some(property) => fits(property, value, all),
                None => fits_other(&schema["additionalProperties"], value, all),
            };
            required.filter_map(Value::as_str).all(|key| object.contains_key(key))
                && object.iter().all(sound)
        }),
    }
}

fn fits_other(schema: &Value, value: &Value, all: &Value) -> bool {
    schema.is_object() && fits(schema, value, all)
}

#[test]
fn the_shipped_files_fit_their_schemas_and_wrong_ones_do_not() {
    for (top, title, _, folder) in SCHEMAS {
        let schema = schema(top, title);
        let files = below(folder, ".toml");
        assert!(!files.is_empty());
        for (path, text) in files {
            let value: Value =
                serde_json::to_value(toml::from_str::<toml::Table>(&text).unwrap()).unwrap();
            assert!(fits(&schema, &value, &schema), "{path} does not fit the schema");
            let mut wrong = value.clone();
            wrong["khong_co"] = json!(1);
            assert!(!fits(&schema, &wrong, &schema), "{path}: an unknown key fits");
        }
    }
}
