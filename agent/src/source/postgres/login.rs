//! The proof that a login cannot change the agency's data (CT-16a).
//!
//! What counts is what the login could do, not what it means to do: rights of every role it can
//! become by SET ROLE count, and so do rights that PUBLIC has.

use phusa_protocol::fault::{Code, Fault};

use super::session::{Session, get};

/// How many rights are named; the rest is only counted.
const NAMED_MAX: usize = 5;

/// Roles the login is or can become.
const REACHABLE: &str = "with recursive reachable (oid) as ( \
       select oid from pg_roles where rolname = session_user \
       union select m.roleid from pg_auth_members m join reachable r on r.oid = m.member)";

/// Every way in which a reachable role could change data, as text. A temporary table is the
/// session's own and harms nobody.
const WAYS: &str = "\
  select format('role %I is a superuser', rolname) from roles where rolsuper \
  union all select format('role %I may create roles', rolname) from roles where rolcreaterole \
  union all select format('role %I may bypass files and programs of the server', rolname) \
    from roles where rolname in ('pg_write_server_files', 'pg_execute_server_program') \
  union all select format('role %I owns %s %I.%I', r.rolname, \
      case c.relkind when 'S' then 'sequence' else 'table' end, n.nspname, c.relname) \
    from roles r join objects c on c.relowner = r.oid join pg_namespace n on n.oid = c.relnamespace \
  union all select format('role %I owns schema %I', r.rolname, n.nspname) \
    from roles r join pg_namespace n on n.nspowner = r.oid \
    where n.nspname !~ '^pg_' and n.nspname <> 'information_schema' \
  union all select format('role %I owns database %I', r.rolname, d.datname) \
    from roles r join pg_database d on d.datdba = r.oid where d.datname = current_database() \
  union all select format('role %I may %s table %I.%I', r.rolname, right_name, n.nspname, c.relname) \
    from roles r cross join objects c join pg_namespace n on n.oid = c.relnamespace \
    cross join unnest(array['insert', 'update', 'delete', 'truncate']) right_name \
    where c.relkind <> 'S' and not r.rolsuper and c.relowner <> r.oid \
      and (has_table_privilege(r.oid, c.oid, right_name) \
           or right_name in ('insert', 'update') \
              and has_any_column_privilege(r.oid, c.oid, right_name)) \
  union all select format('role %I may advance sequence %I.%I', r.rolname, n.nspname, c.relname) \
    from roles r cross join objects c join pg_namespace n on n.oid = c.relnamespace \
    where c.relkind = 'S' and not r.rolsuper and c.relowner <> r.oid \
      and has_sequence_privilege(r.oid, c.oid, 'update, usage')";

/// What of the login concerns capture.
pub(super) struct Login {
    /// The first ways in which it could change data, as text; empty is the proof.
    pub(super) can_write: Vec<String>,
    /// Whether it may use replication slots.
    pub(super) replication: bool,
    /// Schemas in which it may create objects.
    pub(super) creates_in: Vec<String>,
}

impl Login {
    /// Asks the server what the login could do.
    pub(super) async fn inspect(session: &Session) -> Result<Self, Fault> {
        let doing = "cannot find out what the login may do";
        let objects = "objects as materialized (select c.* from pg_class c \
               join pg_namespace n on n.oid = c.relnamespace \
               where c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and c.relpersistence <> 't' \
                 and n.nspname !~ '^pg_' and n.nspname <> 'information_schema')";
        let roles = "roles as materialized (select * from pg_roles where oid in \
               (select oid from reachable))";
        let sql = format!("{REACHABLE}, {roles}, {objects} select * from ({WAYS}) ways limit $1");
        let limit = i64::try_from(NAMED_MAX + 1).unwrap_or(i64::MAX);
        let rows = session.rows(doing, &sql, &[&limit]).await?;
        let can_write = rows.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
        let sql = "select rolreplication or rolsuper, array(select nspname::text from pg_namespace \
                     where nspname !~ '^pg_' and has_schema_privilege(oid, 'create')) \
                   from pg_roles where rolname = current_user";
        let row = session.row(doing, sql, &[]).await?;
        Ok(Self { can_write, replication: get(&row, 0)?, creates_in: get(&row, 1)? })
    }

    /// The fault of a login that could change data, unless the agency says why it may.
    pub(super) fn refusal(&self, user: &str, allowed_because: Option<&str>) -> Option<Fault> {
        if self.can_write.is_empty() || allowed_because.is_some_and(|why| !why.trim().is_empty()) {
            return None;
        }
        let named: Vec<_> = self.can_write.iter().take(NAMED_MAX).map(String::as_str).collect();
        let more = if self.can_write.len() > NAMED_MAX { "; and more" } else { "" };
        let what = format!("login {user} can change data: {}{more}", named.join("; "));
        Some(Fault::new(Code::SourceCanWrite, what))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(ways: usize) -> Login {
        let can_write = (1..=ways).map(|n| format!("way {n}")).collect();
        Login { can_write, replication: true, creates_in: Vec::new() }
    }

    #[test]
    fn a_login_that_can_write_is_refused_unless_the_agency_says_why() {
        assert!(login(0).refusal("phusa", None).is_none());
        assert!(login(1).refusal("phusa", Some("the vendor allows one login only")).is_none());
        let fault = login(2).refusal("phusa", Some(" ")).unwrap();
        assert_eq!(fault.code, Code::SourceCanWrite);
        assert_eq!(fault.what, "login phusa can change data: way 1; way 2");
        assert!(login(6).refusal("phusa", None).unwrap().what.ends_with("way 5; and more"));
    }
}
