//! `freehold contract diff`: what a change of a team's schema takes from the readers of its contracts,
//! told before it is deployed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use sql::catalog::{Catalog, Changed, contract_changes};
use sql::ddl::catalog_of;

use crate::Failure;
use crate::client::connect;

/// What to do with contracts.
#[derive(Subcommand)]
pub enum ContractCommand {
    /// Compares the contracts (tables in public named x_v<number>) that a script of DDL leaves with
    /// those that are deployed. Exit code 0: their readers can go on, 1: something is taken from
    /// them, 2: it could not be looked.
    Diff {
        /// What is to be deployed, as SQL.
        #[arg(value_name = "NEW.sql")]
        new: PathBuf,
        /// What is deployed, as SQL: the script of the main branch.
        #[arg(long, value_name = "OLD.sql")]
        from: Option<PathBuf>,
        /// Where it is deployed: the owner's contracts there. CHECK and foreign keys are compared
        /// between scripts only.
        #[arg(long, env = "DATABASE_URL", value_name = "URL")]
        url: Option<String>,
    },
}

/// Prints what changes; false: something is taken from readers.
pub fn main(command: &ContractCommand) -> Result<bool, Failure> {
    let ContractCommand::Diff { new, from, url } = command;
    let new = read(new)?;
    let old = match (from, url) {
        (Some(from), _) => read(from)?,
        (None, Some(url)) => deployed(url)?,
        (None, None) => {
            return Err("give what is deployed, --from OLD.sql or --url postgres://...".into());
        }
    };
    let changes = contract_changes(&old, &new);
    for (name, change) in &changes {
        println!("public.{name}: {change}");
        if let Changed::Broken(broken) = change {
            broken.iter().for_each(|broken| println!("  {broken}"));
        }
    }
    if changes.is_empty() {
        println!("no contract changes");
    }
    Ok(!changes.values().any(Changed::is_breaking))
}

fn read(path: &Path) -> Result<Arc<Catalog>, Failure> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|error| format!("{}: {error}", path.display()))?;
    on_paper(&text, &path.display().to_string())
}

fn on_paper(script: &str, from: &str) -> Result<Arc<Catalog>, Failure> {
    catalog_of(script).map_err(|error| {
        let report = &error.0;
        let statement = report.context.as_deref().unwrap_or_default();
        format!("{from}: {}\n{statement}", report.message).into()
    })
}

/// The contracts of the role that a database is asked as.
#[tokio::main(flavor = "current_thread")]
async fn deployed(url: &str) -> Result<Arc<Catalog>, Failure> {
    const OWN: &str = "FROM pg_class c WHERE relnamespace = 'public'::regnamespace \
                       AND relkind IN ('r', 'm') AND pg_get_userbyid(relowner) = current_user";
    let client = connect(url).await?;
    let columns = "SELECT attrelid, quote_ident(attname) || ' ' || format_type(atttypid, atttypmod) \
                   || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END FROM pg_attribute \
                   WHERE attnum > 0 AND NOT attisdropped ORDER BY attrelid, attnum";
    let constraints = "SELECT conrelid, 'CONSTRAINT ' || quote_ident(conname) || ' ' || \
                       pg_get_constraintdef(oid) FROM pg_constraint WHERE contype IN ('p', 'u') \
                       ORDER BY conrelid, conname";
    let mut parts = client.query(columns, &[]).await?;
    parts.extend(client.query(constraints, &[]).await?);
    let mut script = String::new();
    let own = format!("SELECT c.oid, quote_ident(relname) {OWN}");
    for table in client.query(&own, &[]).await? {
        let (id, name): (u32, String) = (table.get(0), table.get(1));
        let of_table = parts.iter().filter(|part| part.get::<_, u32>(0) == id);
        let parts: Vec<String> = of_table.map(|part| part.get(1)).collect();
        script += &format!("CREATE TABLE public.{name} ({});\n", parts.join(", "));
    }
    on_paper(&script, "what is deployed")
}
