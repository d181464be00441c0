from tests.stable_names import names

print("\n".join(names()))
