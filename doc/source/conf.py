# SPDX-License-Identifier: Apache-2.0
# Copyright the nova-devcompat authors

project = "nova-devcompat"
copyright = "nova-devcompat developers"

# No extension may need Nova: the documentation is built without one.
extensions = [
    "openstackdocstheme",
    "oslo_config.sphinxext",
    "reno.sphinxext",
    "cliff.sphinxext",
]

html_theme = "openstackdocs"
openstackdocs_auto_name = False
openstackdocs_use_storyboard = False
html_theme_options = {"display_badge": False, "display_global_toc_section": True}

exclude_patterns = []
# The sample page, as "nova-devcompat page" writes it.
html_extra_path = ["_extra"]
pygments_style = "native"
nitpicky = True
