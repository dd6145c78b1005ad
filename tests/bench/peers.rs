//! Movers that others publish as Python packages: dlt, and sling. Both read tables by SQL and make
//! them anew at the target; neither follows a log.

use std::path::{Path, PathBuf};
use std::process::Command;

use phusa_tests::folder::Folder;
use phusa_tests::process::run;
use phusa_tests::province::Readable as _;
use phusa_tests::registry::Table;
use phusa_tests::registry::columns::Column;

use crate::lab::{Engine, Lab, Outcome};
use crate::maria::LOGIN;
use crate::movers::{Mover, Names, Target};

/// Where `packaging/setup --peers` puts them.
const FOLDER: &str = "/var/cache/phusa/peers";

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    Dlt,
    Sling,
}

impl Program {
    /// What it is called in the table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Dlt => "dlt",
            Self::Sling => "sling",
        }
    }

    /// What shows that it is there.
    fn file(self) -> PathBuf {
        Path::new(FOLDER).join(match self {
            Self::Dlt => "dlt/dlt/__init__.py",
            Self::Sling => "sling/sling_linux_amd64/bin/sling-linux-amd64",
        })
    }
}

/// One of them, reading one engine.
pub(crate) struct Peer {
    program: Program,
    from: Engine,
    tables: Vec<Table>,
}

impl Peer {
    /// It, where it is installed.
    pub(crate) fn new(program: Program, from: Engine) -> Option<Self> {
        program.file().exists().then_some(Self { program, from, tables: Vec::new() })
    }

    /// The source's URL, with the scheme that a program knows it by.
    fn source(&self, lab: &Lab, schemes: [&str; 2]) -> Outcome<String> {
        let [postgres, mysql] = schemes;
        Ok(match self.from {
            Engine::PostgreSql => lab.source.url().replacen("postgres://", postgres, 1),
            Engine::MariaDb => {
                let database = lab.maria()?.database();
                let (port, name) = (database.port(), database.name());
                format!("{mysql}{LOGIN}:{LOGIN}@127.0.0.1:{port}/{name}")
            }
        })
    }

    fn dlt(&self, lab: &Lab, target: &Target, folder: &Path) -> Outcome<Command> {
        let script = folder.join("dlt_move.py");
        std::fs::write(&script, include_str!("dlt_move.py"))?;
        let mut command = Command::new("/usr/bin/python3");
        command.env("PYTHONPATH", Path::new(FOLDER).join("dlt")).arg(script);
        command.arg(self.source(lab, ["postgresql+psycopg2://", "mysql+pymysql://"])?);
        command.arg(target.url().replacen("postgres://", "postgresql://", 1)).arg(folder);
        command.args(self.tables.iter().map(|table| table.name()));
        Ok(command)
    }

    fn sling(&self, lab: &Lab, target: &Target, folder: &Path, table: Table) -> Outcome<Command> {
        let mut source = self.source(lab, ["postgres://", "mysql://"])?;
        if self.from == Engine::PostgreSql {
            source.push_str("?sslmode=disable");
        }
        // It sends bytes as text, which PostgreSQL takes for bytes only where it is hexadecimal.
        let column = |column: &Column| match (column.kind, self.from) {
            ("bytea", Engine::PostgreSql) => {
                format!("'\\x' || encode({0}, 'hex') as {0}", column.name)
            }
            ("bytea", Engine::MariaDb) => {
                format!("concat('\\\\x', hex({0})) as {0}", column.name)
            }
            _ => column.name.to_owned(),
        };
        let columns: Vec<String> = table.columns().iter().map(column).collect();
        let mut command = Command::new(self.program.file());
        command.args(["run", "--src-conn", "SOURCE", "--tgt-conn", "TARGET"]);
        command.args([
            "--src-stream",
            &format!("select {} from {}", columns.join(", "), table.name()),
        ]);
        command.args([
            "--tgt-object",
            &format!("public.{}", table.name()),
            "--mode",
            "full-refresh",
        ]);
        command.env("SOURCE", source).env("TARGET", format!("{}?sslmode=disable", target.url()));
        command.env("SLING_DISABLE_TELEMETRY", "true").env("SLING_HOME_DIR", folder);
        Ok(command)
    }
}

impl Mover for Peer {
    fn title(&self) -> &'static str {
        self.program.title()
    }

    fn reads(&self) -> Engine {
        self.from
    }

    fn names(&self) -> Names {
        match self.program {
            Program::Dlt => Names::InBench,
            Program::Sling => Names::Same,
        }
    }

    async fn prepare(&mut self, _lab: &Lab, _target: &Target, tables: &[Table]) -> Outcome<()> {
        self.tables = tables.into();
        Ok(())
    }

    async fn read_all(&mut self, lab: &Lab, target: &Target) -> Outcome<()> {
        let folder = Folder::new();
        let mut commands = match self.program {
            Program::Dlt => vec![self.dlt(lab, target, folder.path())?],
            Program::Sling => {
                let tables = self.tables.iter();
                tables
                    .map(|table| self.sling(lab, target, folder.path(), *table))
                    .collect::<Outcome<_>>()?
            }
        };
        for command in &mut commands {
            command.env("HOME", folder.path()).current_dir(folder.path());
            tokio::task::block_in_place(|| run(command));
        }
        Ok(())
    }
}
