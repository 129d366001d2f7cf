#!/usr/bin/env bash
# One picture of each workflow, from generated data: parts that are inspected, a moment that is found, a lesson.
#
#   runs/workflows.sh [FOLDER]     default: runs/demo
set -euo pipefail
folder=${1:-runs/demo}
bin=$(dirname "$0")/../.venv/bin
pr=$bin/pixel-reasoner
data=$folder/data

"$pr" world parts --kinds plate --width-px 1024 --test 4 --out "$data/parts"
"$pr" inspect "$data/parts/plate" --out "$folder/inspect"

"$pr" world moments --count 1 --duration-s 40 --out "$data/clips"
"$pr" find "$data/clips/media" --query "a red ball rolls through the picture" --annotation "$data/clips" --yes --out "$folder/find"

"$pr" teach --pixelworld --level 2 --count 2 --format html --format strip --out "$folder/lesson"

echo "A defect:  $(ls "$folder"/inspect/pictures/* | head -1)"
echo "A moment:  $folder/find/contact-sheet.webp"
echo "A lesson:  $(ls "$folder"/lesson/teacher/strips/* | head -1)"
