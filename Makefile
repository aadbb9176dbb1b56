# Thin fronts of `cargo xtask`: read there what each does.
.PHONY: test ci tidy budgets install
test ci tidy budgets install:
	cargo xtask $@
