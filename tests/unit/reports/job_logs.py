"""Logs as runners write them, around what the tools of many languages say when they fail."""

from datetime import UTC, datetime, timedelta

BEGAN = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)

PYTEST = """\
============================= test session starts ==============================
platform linux -- Python 3.12.1, pytest-8.1.1, pluggy-1.4.0
rootdir: /home/runner/work/shop/shop
collected 3 items

tests/test_cart.py .F.                                                   [100%]

=================================== FAILURES ===================================
_______________________________ test_total_is_sum ______________________________

    def test_total_is_sum():
        cart = Cart([Item(3), Item(4)])
>       assert cart.total() == 7
E       assert 12 == 7
E        +  where 12 = <bound method Cart.total of <shop.cart.Cart object at 0x7f0>>()

tests/test_cart.py:14: AssertionError
=========================== short test summary info ============================
FAILED tests/test_cart.py::test_total_is_sum - assert 12 == 7
========================= 1 failed, 2 passed in 0.12s =========================="""

JEST = """\
PASS src/basket.test.js
FAIL src/cart.test.js
  ● Cart › adds prices

    expect(received).toBe(expected) // Object.is equality

    Expected: 7
    Received: 12

      at Object.<anonymous> (src/cart.test.js:8:25)

Tests:       1 failed, 14 passed, 15 total"""

GO_TEST = """\
=== RUN   TestTotal
    cart_test.go:14: total = 12, want 7
--- FAIL: TestTotal (0.00s)
FAIL
FAIL\tgithub.com/acme/shop/cart\t0.004s
ok  \tgithub.com/acme/shop/basket\t0.002s
FAIL"""

GCC = """\
gcc -O2 -Wall -c -o cart.o cart.c
cart.c: In function ‘total’:
cart.c:14:12: error: ‘sum’ undeclared (first use in this function)
   14 |     return sum;
      |            ^~~
make: *** [Makefile:4: cart.o] Error 1"""

MAVEN = """\
[INFO] Compiling 14 source files with javac
[INFO] -------------------------------------------------------------
[ERROR] COMPILATION ERROR :
[INFO] -------------------------------------------------------------
[ERROR] /src/main/java/shop/Cart.java:[14,9] cannot find symbol
  symbol:   variable sum
[INFO] BUILD FAILURE"""

NPM = """\
npm ERR! code ERESOLVE
npm ERR! ERESOLVE unable to resolve dependency tree
npm ERR! Found: react@18.2.0
npm ERR! A complete log of this run can be found in: /root/.npm/_logs/debug-0.log"""

CARGO = """\
   Compiling shop v0.1.0 (/home/runner/work/shop/shop)
error[E0425]: cannot find value `sum` in this scope
  --> src/cart.rs:14:5
   |
14 |     sum
   |     ^^^ not found in this scope

error: could not compile `shop` (lib) due to 1 previous error"""

CARGO_TEST = """\
running 2 tests
test cart::empty ... ok
test cart::total ... FAILED

failures:

---- cart::total stdout ----
thread 'cart::total' panicked at src/cart.rs:31:9:
assertion `left == right` failed

test result: FAILED. 1 passed; 1 failed; 0 ignored"""

TSC = """\
> shop@1.0.0 build
> tsc -p .

src/cart.ts(14,3): error TS2322: Type 'string' is not assignable to type 'number'."""

GRADLE = """\
> Task :compileJava
> Task :test FAILED

CartTest > total is the sum FAILED
    org.opentest4j.AssertionFailedError at CartTest.java:14

FAILURE: Build failed with an exception.

* What went wrong:
Execution failed for task ':test'."""

SCRIPT = """\
+ ./deploy.py --stage production
Traceback (most recent call last):
  File "./deploy.py", line 14, in <module>
    main()
  File "./deploy.py", line 9, in main
    raise RuntimeError("no such stage")
RuntimeError: no such stage"""

JAVA = """\
Starting the import
Exception in thread "main" java.lang.IllegalStateException: no such warehouse
\tat shop.Import.run(Import.java:14)
\tat shop.Main.main(Main.java:3)
Caused by: java.net.ConnectException: Connection refused"""

TERRAFORM = """\
Initializing the backend...
╷
│ Error: Invalid reference
│
│   on main.tf line 14, in resource "aws_s3_bucket" "shop":
╵"""

ESLINT = """\
/home/runner/work/shop/shop/src/cart.js
  14:3   error  'sum' is not defined  no-undef

✖ 1 problem (1 error, 0 warnings)"""

RSPEC = """\
Failures:

  1) Cart adds prices
     Failure/Error: expect(cart.total).to eq(7)

       expected: 7
            got: 12

Finished in 0.01 seconds
rspec ./spec/cart_spec.rb:14 # Cart adds prices"""

DOTNET = """\
Cart.cs(14,9): error CS0103: The name 'sum' does not exist in the current context [/src/Shop.csproj]
    0 Warning(s)
    1 Error(s)"""

SHELL = """\
+ ./build.sh
./build.sh: line 14: protoc: command not found"""

TOOLS = {
    "pytest": (PYTEST, "assert 12 == 7"),
    "jest": (JEST, "● Cart › adds prices"),
    "go test": (GO_TEST, "--- FAIL: TestTotal"),
    "gcc": (GCC, "cart.c:14:12: error:"),
    "maven": (MAVEN, "cannot find symbol"),
    "npm": (NPM, "ERESOLVE unable to resolve"),
    "cargo": (CARGO, "error[E0425]"),
    "cargo test": (CARGO_TEST, "test cart::total ... FAILED"),
    "tsc": (TSC, "error TS2322"),
    "gradle": (GRADLE, "CartTest > total is the sum FAILED"),
    "a python script": (SCRIPT, "RuntimeError: no such stage"),
    "java": (JAVA, "no such warehouse"),
    "terraform": (TERRAFORM, "Invalid reference"),
    "eslint": (ESLINT, "'sum' is not defined"),
    "rspec": (RSPEC, "Cart adds prices"),
    "dotnet": (DOTNET, "error CS0103"),
    "shell": (SHELL, "protoc: command not found"),
}
"""What each says, and what of it has to be shown."""

NOISE = [f"step {number}: fetched layer {number:08x}, 0 errors" for number in range(300)]


def github(*steps: tuple[str, str], ends: str | None = "Error: Process completed with exit code 1.") -> bytes:
    """A GitHub job's log: one second a line, the command of each step in a group, and `ends` in the last step."""
    lines = [
        "Current runner version: '2.328.0'",
        "##[group]Runner Image",
        "Image: ubuntu-24.04",
        "##[endgroup]",
    ]
    for number, (command, output) in enumerate(steps):
        lines += [
            f"##[group]Run {command}",
            f"\x1b[36;1m{command}\x1b[0m",
            "shell: /usr/bin/bash -e {0}",
            "##[endgroup]",
        ]
        lines += output.splitlines()
        if ends is not None and number == len(steps) - 1:
            lines.append(ends.replace("Error: ", "##[error]"))
    lines += ["Post job cleanup.", "[command]/usr/bin/git version", "git version 2.45.2"]
    lines += ["Cleaning up orphan processes"]
    return "".join(f"{stamp(number)} {line}\r\n" for number, line in enumerate(lines)).encode("utf-8-sig")


def stamp(second: float) -> str:
    return (BEGAN + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S.%f") + "1Z"


def gitlab(output: str, *, stamped: bool = False) -> bytes:
    """A GitLab job's log, with the runner's sections around the script."""
    began, clear = int(BEGAN.timestamp()), "\x1b[0K\x1b[0K"
    lines = [
        "\x1b[0KRunning with gitlab-runner 17.5.0 (abcdef01)\x1b[0;m",
        f'section_start:{began}:prepare_executor\r{clear}\x1b[36;1mPreparing the "docker" executor\x1b[0;m',
        "Using docker image sha256:0011 for ruby:3.3 ...",
        f"section_end:{began + 5}:prepare_executor\r\x1b[0K",
        f'section_start:{began + 5}:step_script\r{clear}\x1b[36;1mExecuting "step_script" stage of the job script',
        "\x1b[32;1m$ make test\x1b[0;m",
        *output.splitlines(),
        f"section_end:{began + 65}:step_script\r\x1b[0K"
        f"section_start:{began + 65}:cleanup_file_variables\r\x1b[0K\x1b[36;1mCleaning up project directory\x1b[0;m",
        f"section_end:{began + 66}:cleanup_file_variables\r\x1b[0K",
        "\x1b[31;1mERROR: Job failed: exit code 1",
        "\x1b[0;m",
    ]  # fmt: skip
    prefix = [f"{stamp(number)[:26]}Z 00O " if stamped else "" for number in range(len(lines))]
    return "".join(f"{p}{line}\n" for p, line in zip(prefix, lines, strict=True)).encode()


def jenkins(output: str) -> bytes:
    """A Jenkins Pipeline's log, with the hidden notes that Jenkins puts before its own lines."""
    note = "\x1b[8mha:////4H8X0aGVsbG8gd29ybGQAAAB+c3IAAA==\x1b[0m"
    lines = [
        "Started by user Ada",
        f"{note}[Pipeline] Start of Pipeline",
        f"{note}[Pipeline] node",
        "Running on agent-3 in /var/jenkins/workspace/shop",
        f"{note}[Pipeline] {{",
        f"{note}[Pipeline] stage",
        f"{note}[Pipeline] {{ (Build)",
        f"{note}[Pipeline] sh",
        "+ make",
        f"{note}[Pipeline] }}",
        f"{note}[Pipeline] // stage",
        f"{note}[Pipeline] stage",
        f"{note}[Pipeline] {{ (Test)",
        f"{note}[Pipeline] sh",
        "+ make test",
        *output.splitlines(),
        f"{note}[Pipeline] }}",
        f"{note}[Pipeline] // stage",
        f"{note}[Pipeline] }}",
        f"{note}[Pipeline] // node",
        f"{note}[Pipeline] End of Pipeline",
        "ERROR: script returned exit code 1",
        "Finished: FAILURE",
    ]
    return "".join(f"[{stamp(number)[:23]}Z] {line}\n" for number, line in enumerate(lines)).encode()
