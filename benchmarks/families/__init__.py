"""Tiny model folders of all model families, and the checks that each of them passes."""

from families.recipe import Recipe, build_folder
from families.recipes_fixed import FIXED_RECIPES
from families.recipes_grid import GRID_RECIPES
from families.recipes_tiles import TILE_RECIPES

RECIPES: dict[str, Recipe] = {
    one.model_type: one for one in (*GRID_RECIPES, *TILE_RECIPES, *FIXED_RECIPES)
}
"""model type -> recipe of its folder"""

__all__ = ["RECIPES", "Recipe", "build_folder"]
