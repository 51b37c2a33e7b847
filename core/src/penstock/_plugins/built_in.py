"""
penstock's own commands, whose names no plugin may offer, and the names of those that the bundled plugins offer.
"""

# command -> (module of penstock._cli, group, one line of help); the module's function has the command's name.
COMMANDS = {
    "demo": ("sandbox", "Start", "Run every installed connector against a local imitation."),
    "connectors": ("installed", "", "List connectors, sinks, commands and broken plugins."),
    "streams": ("installed", "", "List what a connector offers: streams, keys, fields."),
    "init": ("init", "", "Print a commented configuration."),
    "check": ("check", "", "Try credentials with one cheap request."),
    "plan": ("plan", "Read", "Show what a run would fetch, and why."),
    "run": ("run", "", "Fetch what is not final yet, and deliver it."),
    "status": ("status", "Watch", "Show what was delivered, is open, missing or failed."),
    "runs": ("runs", "", "List the last runs with their reasons, or one report."),
    "changes": ("changes", "", "Show what providers restated since a day."),
    "verify": ("verify", "", "Compare what was delivered with the ledger."),
    "rejected": ("rejected", "", "Show rejected records."),
    "forget": ("forget", "", "Read days again as if they had never been read."),
    "act": ("act", "Write", "Write to a provider; one receipt for each row."),
    "sandbox": ("sandbox", "Develop", "Serve a local imitation of a provider."),
    "completion": ("completion", "", "Print the completion for bash, zsh or fish."),
    "schema": ("init", "", "Print a JSON Schema of penstock.toml for editors."),
}

# Commands of the distribution penstock-plugins: the help names them, and imports no plugin.
BUNDLED = ("new", "page", "singer", "airbyte")
