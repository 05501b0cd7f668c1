"""A server that takes no request."""
from stub import Stub, serve


class Refuses(Stub):
    def answer(self, body):
        self.say(400, {"error": {"message": "this text cannot be handled",
                                 "type": "invalid_request_error"}})


serve(Refuses)
