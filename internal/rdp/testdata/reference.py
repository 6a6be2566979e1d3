"""Writes epsilon.json.gz: what the RDP accountant of Opacus 1.6.0 says of the subsampled Gaussian mechanism.

    python3 -m venv venv
    venv/bin/pip install scipy==1.17.1 numpy==2.4.6
    venv/bin/pip install --no-deps opacus==1.6.0
    venv/bin/python internal/rdp/testdata/reference.py | gzip -9n > internal/rdp/testdata/epsilon.json.gz

Only the accountant's own file is loaded, since the package as a whole needs torch; the orders are those that its
RDPAccountant takes by default.
"""

import ast
import importlib.util
import json
import sys
import warnings
from importlib.metadata import distribution

warnings.simplefilter("ignore")  # an order at the end of the range: part of what is compared
package = distribution("opacus")
assert package.version == "1.6.0"
spec = importlib.util.spec_from_file_location("rdp", package.locate_file("opacus/accountants/analysis/rdp.py"))
rdp = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rdp)
source = ast.parse(package.locate_file("opacus/accountants/rdp.py").read_text())
alphas = next(n.value for n in ast.walk(source) if isinstance(n, ast.Assign) and n.targets[0].id == "DEFAULT_ALPHAS")
orders = eval(compile(ast.Expression(alphas), "rdp.py", "eval"))

cases = []
for noise in (0.5, 0.7, 1.0, 1.3, 2.0, 4.0, 10.0):
    for rate in (0.0005, 0.004, 0.01, 0.05, 0.2, 0.5, 0.9, 1.0):
        one = rdp.compute_rdp(q=rate, noise_multiplier=noise, steps=1, orders=orders)
        for steps in (1, 100, 3000, 100000):
            for delta in (1e-5, 1e-7):
                epsilon, order = rdp.get_privacy_spent(orders=orders, rdp=one * steps, delta=delta)
                cases.append({"noise": noise, "rate": rate, "steps": steps, "delta": delta, "epsilon": float(epsilon), "order": float(order)})
json.dump({"source": "opacus 1.6.0", "cases": cases}, sys.stdout, indent=0)
print()
