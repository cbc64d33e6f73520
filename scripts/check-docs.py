#!/usr/bin/env python3
"""Checks the book and the other pages: each page of the summary exists, no page is left out of it, and every
relative link and anchor leads somewhere."""
import pathlib, re, sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BOOK = ROOT / "docs" / "src"
LINK = re.compile(r"\[[^\]\n]*\]\(([^)\s]+)\)")


def prose(path):
    """The text without code blocks, in which brackets mean other things."""
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.S | re.M)
    return re.sub(r"`[^`\n]*`", "``", text)


def anchors(path):
    """The anchors of a page's headings, as mdBook and GitHub make them."""
    found = set()
    text = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.S | re.M)
    for heading in re.findall(r"^#+ +(.*?) *$", text, flags=re.M):
        heading = re.sub(r"[`*]", "", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", heading).replace(" ", "-"))
    return found


def main():
    pages = [*BOOK.glob("**/*.md"), ROOT / "docs" / "ARCHITECTURE.md", ROOT / "README.md", ROOT / "CHANGELOG.md",
             ROOT / "examples" / "README.md", *(ROOT / "tests").glob("**/*.md"), *ROOT.glob("*/README.md")]
    pages = sorted(set(pages))
    problems = [f"{page.relative_to(ROOT)}: there is no such page" for page in pages if not page.is_file()]
    listed = set()
    for page in filter(pathlib.Path.is_file, pages):
        name = page.relative_to(ROOT)
        for link in LINK.findall(prose(page)):
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            to = (page.parent / path).resolve() if path else page
            if page.name == "SUMMARY.md":
                listed.add(to)
            if not to.exists():
                problems.append(f"{name}: {link} leads nowhere")
            elif anchor and to.suffix == ".md" and anchor not in anchors(to):
                problems.append(f"{name}: {link}: there is no such heading")
    for page in BOOK.glob("**/*.md"):
        if page.name != "SUMMARY.md" and page.resolve() not in listed:
            problems.append(f"{page.relative_to(ROOT)}: is not in SUMMARY.md")
    print("\n".join(problems) if problems else f"{len(pages)} pages, every link leads somewhere")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
