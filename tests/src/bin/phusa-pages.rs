//! Man pages, completions of shells and the bill of materials, from the programs' own definitions and the
//! lock file: `phusa-pages FOLDER` with the packages of `cargo tree --prefix none` on standard input.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _};
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_complete::{Shell, generate_to};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    checksum: Option<String>,
}

fn main() -> io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(program)) = (arguments.next(), arguments.next()) else {
        return Err(io::Error::other("usage: phusa-pages FOLDER phusa-agent|phusa-hub <tree"));
    };
    let folder = Path::new(&folder);
    let command = match program.as_str() {
        "phusa-agent" => phusa_agent::cli::Cli::command(),
        "phusa-hub" => phusa_hub::cli::Cli::command(),
        other => return Err(io::Error::other(format!("{other} is no program of ours"))),
    };
    pages(folder, command)?;
    let mut tree = String::new();
    io::stdin().read_to_string(&mut tree)?;
    let bill = bill(&program, &tree, &fs::read_to_string("Cargo.lock")?)?;
    let text = serde_json::to_string_pretty(&bill)? + "\n";
    fs::write(folder.join(format!("{program}.cdx.json")), text)
}

fn pages(folder: &Path, command: Command) -> io::Result<()> {
    fs::create_dir_all(folder.join("man"))?;
    fs::create_dir_all(folder.join("completions"))?;
    let name = command.get_name().to_owned();
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut command.clone(), &name, folder.join("completions"))?;
    }
    // Of the date of the last change, not of the day of packaging, so that it is the same each time.
    clap_mangen::generate_to(command, folder.join("man"))
}

/// The bill of materials (`CycloneDX` 1.5): what is built in, by name, version and content.
fn bill(program: &str, tree: &str, lock: &str) -> io::Result<Value> {
    let lock: Lock = toml::from_str(lock).map_err(io::Error::other)?;
    let sums: BTreeMap<(String, String), Option<String>> =
        lock.package.into_iter().map(|p| ((p.name, p.version), p.checksum)).collect();
    let mut built: Vec<(String, String)> = tree
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (name, version) = (words.next()?, words.next()?);
            Some((name.to_owned(), version.trim_start_matches('v').to_owned()))
        })
        .collect();
    built.sort();
    built.dedup();
    let component = |(name, version): &(String, String)| {
        let sum = sums.get(&(name.clone(), version.clone())).cloned().flatten();
        let hashes: Vec<Value> =
            sum.into_iter().map(|sum| json!({"alg": "SHA-256", "content": sum})).collect();
        json!({
            "type": "library", "name": name, "version": version,
            "purl": format!("pkg:cargo/{name}@{version}"), "hashes": hashes,
        })
    };
    let components: Vec<Value> = built.iter().map(component).collect();
    Ok(json!({
        "bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
        "metadata": {"component": {
            "type": "application", "name": program, "version": env!("CARGO_PKG_VERSION"),
        }},
        "components": components,
    }))
}
