//! Prints what each line of standard input does: `cargo run -p gateway-sql --example probe -- catalog.json`.

use std::io::BufRead as _;

fn main() {
    let path = std::env::args().nth(1).unwrap_or_default();
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let catalog = gateway_sql::Catalog::from_json(&text).unwrap_or_else(|error| {
        eprintln!("{error}");
        gateway_sql::Catalog::default()
    });
    let session = gateway_sql::SessionState {
        database: "orders".to_owned(),
        ..Default::default()
    };
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let analysis = gateway_sql::analyze(&line, &catalog, &session);
        println!("{line}");
        for statement in &analysis.statements {
            let asked: Vec<String> = statement.operations.iter().map(ToString::to_string).collect();
            println!("    => {}", asked.join("; "));
            let carried: Vec<String> = statement
                .outputs
                .iter()
                .map(|output| {
                    let carries: Vec<String> = output.carries.iter().map(ToString::to_string).collect();
                    format!("{}<{}>", output.name.as_deref().unwrap_or("?"), carries.join(" "))
                })
                .collect();
            if !carried.is_empty() {
                println!("    outputs {}", carried.join(", "));
            }
            if !statement.compared.is_empty() {
                println!(
                    "    compared {:?}",
                    statement
                        .compared
                        .iter()
                        .map(ToString::to_string)
                        .collect::<Vec<_>>()
                );
            }
            if statement.unresolved || statement.opaque_call || statement.forbidden.is_some() {
                println!(
                    "    unresolved {} opaque {} forbidden {:?}",
                    statement.unresolved, statement.opaque_call, statement.forbidden
                );
            }
            if let Some(error) = &statement.syntax_error {
                println!("    {error}");
            }
        }
    }
}
