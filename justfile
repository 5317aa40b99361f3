# The manual of this repository: `just` alone lists it. Recipes run on the Python of the environment that holds `just`.

bin := if env("VIRTUAL_ENV", "") != "" { env("VIRTUAL_ENV") / "bin" } else { justfile_directory() / ".venv" / "bin" }
python := bin / "python"

# What mypy reads. Each conftest.py goes alone: pytest lets them share a name, mypy does not.
packages := "contracts/src libs/*/src services/*/src"
ours := "git ls-files --cached --others --exclude-standard"
tests := "$(" + ours + " '*test_*.py' 'tests/*.py' ':!*conftest.py')"
conftests := "$(" + ours + " '*conftest.py')"

# What is derived from the contracts and committed; each takes --write or --check.
generators := "muster_contracts.generate muster_bus.generate muster_client.outputs"

# How many test processes: conftest.py says, unless this does. A file's tests go to one, which so makes its servers
# and containers once; the files go out in the order conftest.py gives them.
workers := env("MUSTER_TEST_WORKERS", "auto")
spread := "--dist loadfile --no-loadscope-reorder"

[private]
default:
    @'{{ just_executable() }}' --justfile '{{ justfile() }}' --list --unsorted

[doc("Run the tests that need nothing but Python; arguments go to pytest")]
[group("test")]
test *args:
    '{{ python }}' -m pytest -n {{ workers }} {{ spread }} -m "not soak" {{ args }}

[doc("Run every test, the long ones and those that need outside tools too")]
[group("test")]
test-all *args:
    '{{ python }}' -m pytest -n {{ workers }} {{ spread }} {{ args }}

[doc("Measure: the targets of the benchmarks, one line each")]
[group("test")]
bench *args:
    '{{ python }}' -m tests.bench {{ args }}

[doc("Lint, types, import rules, freshness of what is generated")]
[group("check")]
check: lint types imports (generate "--check")

[doc("Ruff: rules and format")]
[group("check")]
lint:
    '{{ bin }}/ruff' check .
    '{{ bin }}/ruff' format --check .

[doc("mypy --strict over every package and every test")]
[group("check")]
types:
    '{{ python }}' -m mypy {{ packages }} {{ tests }}
    @for file in {{ conftests }}; do '{{ python }}' -m mypy "$file" || exit 1; done

[doc("Who may import whom (.importlinter says why)")]
[group("check")]
imports:
    '{{ bin }}/lint-imports' --no-logo

[doc("Format the code")]
[group("write")]
fmt:
    '{{ bin }}/ruff' check --fix-only --quiet .
    '{{ bin }}/ruff' format .

# Every generator is asked, so that one run of --check names all that is stale.
[doc("Write what follows from the contracts: schemas, examples, AsyncAPI, permissions, the map; or --check")]
[group("write")]
generate how="--write":
    @status=0; for generator in {{ generators }}; do \
        '{{ python }}' -m $generator {{ how }} || status=1; \
    done; exit $status

[doc("Make today's contracts the baseline that later changes may not break")]
[group("write")]
publish-contracts:
    '{{ python }}' -m muster_contracts.generate --publish

[doc("Start the fleet on this machine")]
[group("run")]
up *args:
    '{{ bin }}/muster' up {{ args }}

[doc("Stop it")]
[group("run")]
down *args:
    '{{ bin }}/muster' down {{ args }}

[doc("Simulate a fleet to look at: agents (--agents 10000) and a control plane of their own")]
[group("run")]
simulate *args:
    '{{ python }}' -m muster_testing.simulator {{ args }}

[doc("All that CI does, on this machine (as root, on Debian)")]
[group("check")]
ci:
    .ci/run
