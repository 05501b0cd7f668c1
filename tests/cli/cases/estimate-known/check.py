import json

e = json.load(open("estimate.json"))["estimate"]
before, bill = json.load(open("before.json")), json.load(open("bill.json"))
print("rows", e["rows"], "known", e["rows_known"], "to ask", e["texts"],
      "exact", e["exact"])
for name, is_in in ("tokens_in", "prompt_tokens"), ("nanousd", "nanousd"):
    real = bill[is_in] - before[is_in]
    print(name, e[name + "_low"] <= real <= e[name + "_high"],
          abs(e[name] / real - 1) < 0.05)
print("bound", bill["nanousd"] - before["nanousd"] <= e["bound_nanousd"])
