"""Says the headers of a gateway back: as a refusal, or as the name of the model and the id of a request."""
from stub import Stub, serve


class Gateway(Stub):
    def answer(self, body):
        told = " ".join(self.headers[name] for name in ("x-gateway-api-key", "x-gateway", "x-team"))
        if body["model"] == "refused":
            self.say(403, {"error": {"message": "not for you: " + told}}, "")
        else:
            self.say_label(body, "a", told, model=told)


serve(Gateway)
